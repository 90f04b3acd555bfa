// SPDX-License-Identifier: Apache-2.0
// The ways to backends, while a daemon follows them: who cannot be reached, why and since when, and whose MAC is not its alone.
import { vipOf } from '../core/address.ts'
import type { Happening } from '../core/backend-state.ts'
import { type DesiredState, isLeaving, type Path } from '../core/desired.ts'
import { type AddressKey, AF, addressKey } from '../core/ip.ts'
import { isUsable } from '../core/neighbour.ts'
import { withPaths } from '../core/paths.ts'
import type { Change } from '../core/plan.ts'
import { isPrefix } from '../core/prefix.ts'
import { explainSharedMac, sharedMacs } from '../core/shared-macs.ts'
import { namesToCompare } from '../core/state-map.ts'
import { scanBackends } from '../dataplane/backend-records.ts'
import type { KernelPlane } from '../dataplane/kernel.ts'
import { BackendFlag } from '../dataplane/layout.gen.ts'
import type { LiveState } from '../dataplane/reader.ts'
import { changeAll, type Resolver, type Session } from '../shell/session.ts'

/** Why a backend cannot be reached, and since when. */
export interface Unreached {
  why: string
  sinceMs: number
}

const UNASKED: Path = { kind: 'unresolved', why: 'not asked yet' }

export class BackendWays {
  /** Of backends that cannot be reached now, by address. */
  readonly unreached = new Map<string, Unreached>()
  /** MACs that are not one backend's alone, as of the last look. */
  sharedMacs: { what: string; mend: string; sinceMs: number }[] = []
  readonly #tell: (happening: Happening) => void
  readonly #nowMs: () => number
  #known: { live: LiveState; addresses: Set<AddressKey>; vips: Set<string> } | undefined

  constructor(tell: (happening: Happening) => void, nowMs: () => number) {
    this.#tell = tell
    this.#nowMs = nowMs
  }

  /** ISO 8601, where that is known. */
  silentSince(address: string): string | undefined {
    const known = this.unreached.get(address)
    return known === undefined ? undefined : new Date(known.sinceMs).toISOString()
  }

  /** Takes over what the kernel knows of backends' MACs, and looks for those that cannot be reached. */
  refresh(session: Session): void {
    const unresolved = unresolvedOf(session)
    const addresses = new Set([...unresolved.values()].flat())
    changeAll(session, {
      services: (state, resolver) => {
        if (addresses.size === 0) return state
        const paths = resolver.resolve(addresses)
        this.#noteUnreached(paths, unresolved)
        return withPaths(state, unresolved.keys(), (address, before) => paths.get(address) ?? before)
      },
    })
    const left = new Set([...unresolvedOf(session).values()].flat())
    for (const address of this.unreached.keys()) if (!left.has(address)) this.unreached.delete(address)
    this.#lookForSharedMacs(session)
  }

  /** Is any of these a backend, or a VIP? */
  isConcernedBy(plane: KernelPlane, live: LiveState, addresses: Iterable<string>): boolean {
    const { addresses: known } = this.#addresses(plane, live)
    for (const address of addresses) if (known.has(addressKey(address))) return true
    return false
  }

  /** Of backends and VIPs; and the VIPs. Read anew after each change. */
  #addresses(plane: KernelPlane, live: LiveState) {
    if (this.#known?.live !== live) {
      const addresses = new Set<AddressKey>()
      scanBackends(plane, live, ({ address }) => addresses.add(address))
      const vips = new Set([...live.services.keys()].map(vipOf).filter((vip) => !isPrefix({ vip })))
      for (const vip of vips) addresses.add(addressKey(vip))
      this.#known = { live, addresses, vips }
    }
    return this.#known
  }

  #lookForSharedMacs({ native: { netlink }, plane, live, interfaces }: Session): void {
    const { addresses: known, vips } = this.#addresses(plane, live)
    const segments = new Set(interfaces.map(({ ifindex }) => ifindex))
    const neighbours = [...netlink.neighbours(AF.ipv4), ...netlink.neighbours(AF.ipv6)].filter((each) => isUsable(each))
    const backends = neighbours.filter(
      ({ address, ifindex }) => segments.has(ifindex) && !vips.has(address) && known.has(addressKey(address)),
    )
    const facts = { backends, vips, neighbours, interfaces: netlink.interfaces() }
    const before = new Map(this.sharedMacs.map((each) => [each.what, each]))
    const found = sharedMacs(facts).map((shared) => {
      const { what, mend } = explainSharedMac(shared)
      return before.get(what) ?? { what, mend, sinceMs: this.#nowMs() }
    })
    const tell = (to: string, reason: string): void =>
      this.#tell({ kind: 'backend', subject: 'shared MAC', to, reason })
    for (const { what } of found) if (!before.delete(what)) tell('warning', what)
    for (const what of before.keys()) tell('ended', what)
    this.sharedMacs = found
  }

  #noteUnreached(paths: ReadonlyMap<string, Path>, unresolved: ReadonlyMap<string, string[]>): void {
    for (const [address, path] of paths) {
      const known = this.unreached.get(address)
      if (path.kind !== 'unresolved' || known?.why === path.why) continue
      this.unreached.set(address, { why: path.why, sinceMs: known?.sinceMs ?? this.#nowMs() })
      for (const [subject, addresses] of unresolved) {
        if (!addresses.includes(address)) continue
        this.#tell({ kind: 'backend', subject, backend: address, to: 'no-mac', reason: path.why })
      }
    }
  }

  /** Of backends that answered and do not any more, the reason is known here and in no map. */
  noteSilent(changes: readonly Change[]): void {
    for (const change of changes) {
      if (change.kind !== 'change') continue
      const before = new Map(change.have.backends.map(({ address, path }) => [address, path.kind]))
      for (const { address, path } of change.want.backends) {
        if (path.kind !== 'unresolved' || before.get(address) !== 'link') continue
        this.unreached.set(address, { why: path.why, sinceMs: this.#nowMs() })
      }
    }
  }
}

/** Backends that have no path yet get what the kernel knows; it is asked for the rest. */
export const withWays = (have: DesiredState, want: DesiredState, resolver: Resolver): DesiredState => {
  if (want === have) return want
  const names = [...namesToCompare(have, want)].filter((name) => want.has(name))
  const addresses = new Set(
    names.flatMap((name) =>
      (want.get(name)?.backends ?? []).flatMap(({ address, path }) => (path.kind === 'unresolved' ? [address] : [])),
    ),
  )
  if (addresses.size === 0) return want
  const paths = resolver.resolve(addresses)
  return withPaths(want, names, (address, before) =>
    before.kind === 'unresolved' ? (paths.get(address) ?? UNASKED) : before,
  )
}

/** Services with backends that cannot be reached, and the addresses of these. */
const unresolvedOf = ({ plane, live }: Session): Map<string, string[]> => {
  const names = new Set<string>()
  const { BACKEND_LOCAL, BACKEND_CUT } = BackendFlag
  scanBackends(plane, live, ({ name, flags, isLink }) => {
    if (!isLink && (flags & (BACKEND_LOCAL | BACKEND_CUT)) === 0) names.add(name)
  })
  const found = new Map<string, string[]>()
  for (const name of names) {
    const addresses = (live.desired.get(name)?.backends ?? [])
      .filter((backend) => backend.path.kind === 'unresolved' && !isLeaving(backend))
      .map(({ address }) => address)
    if (addresses.length > 0) found.set(name, addresses)
  }
  return found
}
