// SPDX-License-Identifier: Apache-2.0
// MACs that more than one has. Direct server return tells real servers apart by their MACs alone: where two have the same, or a
// real server that of the VIP or of this host, packets go to one that was not chosen.

/** A backend, once, whatever the number of its services. */
export interface BackendMac {
  address: string
  mac: string
  /** The device that leads to it: a segment. */
  ifindex: number
}

/** Who answers for an address in a segment, as the kernel's neighbour table has it. */
export interface AddressHolder {
  ifindex: number
  address: string
  /** '' where nobody answers. */
  mac: string
}

export interface OwnInterface {
  ifindex: number
  name: string
  mac: string
  loopback: boolean
}

export interface MacFacts {
  backends: readonly BackendMac[]
  /** Addresses of services. */
  vips: ReadonlySet<string>
  neighbours: readonly AddressHolder[]
  interfaces: readonly OwnInterface[]
}

/** `addresses` are those of backends; of `vip` there is one for each VIP that the backend holds on the segment. */
export type SharedMac =
  | { kind: 'backends'; mac: string; interface: string; addresses: string[] }
  | { kind: 'vip'; mac: string; interface: string; addresses: string[]; vips: string[] }
  | { kind: 'own'; mac: string; interface: string; addresses: string[]; own: string[] }

/** A text that a person is shown names so many addresses at most. */
const NAMED = 4

const byOctets = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

/** Groups in the order in which each was first met. */
const groupBy = <T>(items: Iterable<T>, keyOf: (item: T) => string): Map<string, T[]> => {
  const groups = new Map<string, T[]>()
  for (const item of items) {
    const group = groups.get(keyOf(item))
    if (group === undefined) groups.set(keyOf(item), [item])
    else group.push(item)
  }
  return groups
}

const keyOf = ({ ifindex, mac }: { ifindex: number; mac: string }): string => `${ifindex} ${mac}`

/**
 * MACs that are not one backend's alone: first those of this host, then those of whoever answers for a VIP, then those that
 * several backends have. One machine with an address in each of two segments is nothing of the kind.
 */
export const sharedMacs = ({ backends, vips, neighbours, interfaces }: MacFacts): SharedMac[] => {
  const nameOf = new Map(interfaces.map(({ ifindex, name }) => [ifindex, name]))
  const own = groupBy(
    interfaces.filter(({ mac, loopback }) => mac !== '' && !loopback),
    ({ mac }) => mac,
  )
  const holders = groupBy(
    neighbours.filter(({ address, mac }) => mac !== '' && vips.has(address)),
    keyOf,
  )
  const known = backends.filter(({ mac }) => mac !== '')
  const found: SharedMac[] = []
  for (const [key, group] of groupBy(known, keyOf)) {
    const [first] = group
    if (first === undefined) continue
    const { mac, ifindex } = first
    const common = {
      mac,
      interface: nameOf.get(ifindex) ?? `interface ${ifindex}`,
      addresses: [...new Set(group.map(({ address }) => address))].sort(byOctets),
    }
    const ownNames = own.get(mac)?.map(({ name }) => name) ?? []
    // A backend whose own address is a VIP holds it as any host does.
    const held = (holders.get(key) ?? []).map(({ address }) => address).filter((vip) => !common.addresses.includes(vip))
    if (ownNames.length > 0) found.push({ kind: 'own', ...common, own: ownNames })
    if (held.length > 0) found.push({ kind: 'vip', ...common, vips: [...new Set(held)].sort(byOctets) })
    if (common.addresses.length > 1) found.push({ kind: 'backends', ...common })
  }
  const order = ['own', 'vip', 'backends']
  return found.sort((a, b) => order.indexOf(a.kind) - order.indexOf(b.kind) || byOctets(a.mac, b.mac))
}

const list = (addresses: readonly string[]): string =>
  addresses.length <= NAMED
    ? addresses.join(', ')
    : `${addresses.slice(0, NAMED).join(', ')} and ${addresses.length - NAMED} more`

/** What is wrong, and how to mend it. */
export const explainSharedMac = (shared: SharedMac): { what: string; mend: string } => {
  const { mac, addresses } = shared
  const who = `${addresses.length === 1 ? 'backend' : 'backends'} ${list(addresses)}`
  switch (shared.kind) {
    case 'own':
      return {
        what: `${who}: ${mac} is the MAC of this director's own ${list(shared.own)}, so that packets for it would come back here`,
        mend: `give one of the two another MAC (ip link set dev ${shared.own[0]} address ...): a copied virtual machine keeps that of its origin`,
      }
    case 'vip':
      return {
        what: `${who}: ${mac} also answers for the VIP ${list(shared.vips)} on ${shared.interface}, so that clients there send past the director`,
        mend: 'on the real server: sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2, and the VIP on lo with a prefix of /32 (IPv6: /128)',
      }
    case 'backends':
      return {
        what: `${who} have the same MAC ${mac} on ${shared.interface}: packets for any of them go to one machine`,
        mend: 'if that is one machine with several addresses, name one of them as the backend; else look for a copied MAC, or for a router that answers ARP for others (proxy_arp)',
      }
    default:
      return shared satisfies never
  }
}
