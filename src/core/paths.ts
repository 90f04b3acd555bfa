// SPDX-License-Identifier: Apache-2.0
// Ways to backends: by the route or in a VLAN of their own, asked anew, compared.
import type { DesiredState, Path, Service } from './desired.ts'
import { ChangedState } from './state-map.ts'
import type { Vlan } from './vlan.ts'

/** A path by the route, with the tag that was asked for in place of the route's. */
export const inVlan = (path: Path, vlan: Vlan | undefined): Path => {
  if (path.kind !== 'link' || vlan === undefined) return path
  const { vlan: _, ...untagged } = path
  return vlan === 'none' ? untagged : { ...untagged, vlan }
}

/** Paths of the backends of these services asked anew: what `resolve` answers takes the old path's place. */
export const withPaths = (
  state: DesiredState,
  names: Iterable<string>,
  resolve: (address: string, before: Path) => Path,
): DesiredState => {
  const next: [string, Service][] = []
  for (const name of names) {
    const service = state.get(name)
    if (service === undefined) continue
    const backends = service.backends.map((backend) => {
      const path = inVlan(resolve(backend.address, backend.path), backend.vlan)
      return samePath(path, backend.path) ? backend : { ...backend, path }
    })
    if (backends.some((backend, i) => backend !== service.backends[i])) next.push([name, { ...service, backends }])
  }
  return next.length === 0 ? state : ChangedState.of(state, next)
}

/** Do two paths lead packets the same way? Why a path is unresolved does not matter. */
export const samePath = (a: Path, b: Path): boolean =>
  a.kind === 'link' && b.kind === 'link'
    ? a.mac === b.mac && a.interfaceSlot === b.interfaceSlot && a.vlan === b.vlan
    : a.kind === b.kind
