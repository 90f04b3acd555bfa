// SPDX-License-Identifier: Apache-2.0
// This host's part: what its interfaces are, which addresses they have, how its stack filters.
import { readFileSync } from 'node:fs'
import type { InterfaceFacts } from '../../core/doctor/facts.ts'
import { type Family, familyOf, leadingBits } from '../../core/ip.ts'
import type { Interface, InterfaceAddress, Native } from '../../dataplane/native.ts'
import { PASS_FILE } from '../attach.ts'
import { collectFacts } from '../preflight.ts'
import type { Look } from './look.ts'

/** An xlb's own programs on interfaces. */
const OWN_PROGRAMS = ['xlb', 'xlb_capture']

/** What cannot be read is not known: some containers have no /proc/sys. */
const readText = (path: string): string | undefined => {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
}

const rpFilterOf = (name: string): number | undefined => {
  const of = (each: string) => readText(`/proc/sys/net/ipv4/conf/${each}/rp_filter`)
  const [all, own] = [of('all'), of(name)]
  return all === undefined || own === undefined ? undefined : Math.max(Number(all), Number(own))
}

/** Interfaces with a route of IPv4 to everywhere. */
export const defaultRoutes = (): string[] => {
  const lines = readText('/proc/self/net/route')?.split('\n').slice(1) ?? []
  const rows = lines.map((line) => line.split('\t'))
  return [
    ...new Set(
      rows.filter(([, to, , , , , , mask]) => to === '00000000' && mask === '00000000').map(([name]) => name ?? ''),
    ),
  ]
}

/** The name of a program in xlb's link that is not xlb's. Where nothing says which one is, names do. */
const foreignProgramOf = (name: string | null | undefined, otherProgram: number | undefined): string | undefined => {
  if (otherProgram !== undefined) return name ?? `id ${otherProgram}`
  return name == null || OWN_PROGRAMS.includes(name) ? undefined : name
}

export const interfaceFacts = (native: Native, { interfaces, backends }: Look): InterfaceFacts[] =>
  interfaces.map(({ name, mode, fault, slot, programId, programName, otherProgram }) => {
    const tags = backends.flatMap(({ path }) =>
      path.kind === 'link' && path.interfaceSlot === slot && path.vlan !== undefined ? [path.vlan] : [],
    )
    return {
      name,
      mode,
      fault,
      foreignProgram: foreignProgramOf(programName, otherProgram),
      tags: [...new Set(tags)],
      machine: collectFacts(native, name, {
        ownProgramId: fault === undefined ? programId : (otherProgram ?? 0),
        passObject: PASS_FILE,
      }),
      rpFilter: rpFilterOf(name),
    }
  })

const isLinkLocal = (address: string): boolean => /^fe[89ab]/.test(address)

/** This host's interfaces and addresses, of one moment. */
export class Host {
  readonly interfaces: readonly Interface[]
  readonly #addresses: readonly InterfaceAddress[]
  readonly #vips: ReadonlySet<string>

  constructor(native: Native, vips: Iterable<string>) {
    this.interfaces = native.netlink.interfaces()
    this.#addresses = native.netlink.addresses()
    this.#vips = new Set(vips)
  }

  link(ifindex: number): Interface | undefined {
    return this.interfaces.find((each) => each.ifindex === ifindex)
  }

  nameOf(ifindex: number): string {
    return this.link(ifindex)?.name ?? `interface ${ifindex}`
  }

  hasMac(mac: string): boolean {
    return this.interfaces.some((each) => each.mac === mac)
  }

  /** Names of interfaces that have the address. */
  holders(address: string): string[] {
    return [
      ...new Set(this.#addresses.filter((each) => each.address === address).map(({ ifindex }) => this.nameOf(ifindex))),
    ]
  }

  /** Has one of these interfaces a network with this address in it? */
  isOnLink(ifindexes: readonly number[], address: string): boolean {
    return this.#addresses.some(
      (each) =>
        ifindexes.includes(each.ifindex) &&
        familyOf(each.address) === familyOf(address) &&
        each.prefixLength < (familyOf(address) === 'ipv4' ? 32 : 128) &&
        leadingBits(each.address, each.prefixLength) === leadingBits(address, each.prefixLength),
    )
  }

  /** An address of the interface to ask by, no VIP, in the network of `near` if there is one; undefined: it has none. */
  addressOf(ifindex: number, family: Family, near?: string): string | undefined {
    const own = this.#addresses.filter(
      ({ ifindex: on, address }) =>
        on === ifindex && familyOf(address) === family && !this.#vips.has(address) && !isLinkLocal(address),
    )
    const inNetwork = own.find(
      ({ address, prefixLength }) =>
        near !== undefined && leadingBits(address, prefixLength) === leadingBits(near, prefixLength),
    )
    return (inNetwork ?? own[0])?.address
  }
}
