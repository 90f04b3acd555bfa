// SPDX-License-Identifier: Apache-2.0
// What `ipvsadm -Ln`, with --stats or --rate, would print of xlb's services: for scripts that read it.
import { formatIpv4 } from '../core/ip.ts'
import { DEFAULT_PREFIX, DEFAULT_PREFIX6 } from '../core/persistence.ts'
import { VERSION } from '../core/version.ts'
import type { Listing, ListOptions, ServiceRow } from './list.ts'

const DIGITS = 8
const THOUSAND = 1000n
const UNITS = ['', 'K', 'M', 'G', 'T']

/** A column of eight characters: what is longer is cut to thousands, millions and so on. */
const large = (value: bigint): string => {
  let [rest, unit] = [value, 0]
  while (`${rest}${UNITS[unit]}`.length > DIGITS && unit < UNITS.length - 1) [rest, unit] = [rest / THOUSAND, unit + 1]
  return `${rest}${UNITS[unit]}`.padStart(DIGITS)
}

/** ipvsadm knows one port, or all, which it calls 0. */
const endpoint = (service: string): string => service.slice('tcp://'.length).replace(/:\*$/, ':0')

const portsOf = (service: string): string => endpoint(service).slice(endpoint(service).lastIndexOf(':') + 1)

const hostOf = (address: string): string => (address.includes(':') ? `[${address}]` : address)

/** Of IPv4 as an address (255.255.255.0), of IPv6 in bits; not where each address is a client by itself. */
const maskOf = (service: string, { prefix, prefix6 }: NonNullable<ServiceRow['persistence']>): string => {
  if (endpoint(service).startsWith('[')) return prefix6 === DEFAULT_PREFIX6 ? '' : ` mask ${prefix6}`
  return prefix === DEFAULT_PREFIX ? '' : ` mask ${formatIpv4(2 ** 32 - 2 ** (32 - prefix))}`
}

const flagsOf = ({ service, persistence, ops }: ServiceRow): string => {
  const persistent = persistence === null ? '' : ` persistent ${persistence.seconds}${maskOf(service, persistence)}`
  return `${persistent}${ops ? ' ops' : ''}`
}

const protocolOf = (service: string): string => service.slice(0, 3).toUpperCase()

const plain = (list: Listing): string[] => [
  'Prot LocalAddress:Port Scheduler Flags',
  '  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn',
  ...list.services.flatMap((row) => [
    `${protocolOf(row.service)}  ${endpoint(row.service)} ${row.scheduler}${flagsOf(row)}`,
    ...row.backends.map(({ address, weight, effectiveWeight, state, active, inactive }) => {
      const name = `${hostOf(address)}:${portsOf(row.service)}`
      const forward = state === 'local' ? 'Local' : 'Route'
      // There a server that takes no new flow has weight 0, and no other sign.
      const shown = effectiveWeight === 0 ? 0 : weight
      const counts = [active ?? 0, inactive ?? 0].map((count) => String(count).padEnd(10))
      return `  -> ${name.padEnd(28)} ${forward.padEnd(7)} ${String(shown).padEnd(6)} ${counts.join(' ')}`.trimEnd()
    }),
  ]),
]

/** Nothing comes back by the director: outgoing packets and octets are 0, as IPVS has them with direct routing. */
const counted = (list: Listing, titles: readonly string[]): string[] => {
  const line = (name: string, { flows, packets, bytes }: { flows: bigint; packets: bigint; bytes: bigint }): string =>
    `${name.padEnd(33)}${[flows, packets, 0n, bytes, 0n].map((value) => ` ${large(value)}`).join('')}`
  const none = { flows: 0n, packets: 0n, bytes: 0n }
  return [
    `${'Prot LocalAddress:Port'.padEnd(33)}${titles.map((title) => ` ${title.padStart(DIGITS)}`).join('')}`,
    '  -> RemoteAddress:Port',
    ...list.services.flatMap(({ service, backends }) => {
      const sum = backends.reduce(
        (all, { counts }) => ({
          flows: all.flows + counts.flows,
          packets: all.packets + counts.packets,
          bytes: all.bytes + counts.bytes,
        }),
        none,
      )
      return [
        line(`${protocolOf(service)}  ${endpoint(service)}`, sum),
        ...backends.map(({ address, counts }) => line(`  -> ${hostOf(address)}:${portsOf(service)}`, counts)),
      ]
    }),
  ]
}

const rows = (list: Listing, { stats, rate }: ListOptions): string[] => {
  if (stats === true) return counted(list, ['Conns', 'InPkts', 'OutPkts', 'InBytes', 'OutBytes'])
  if (rate === true) return counted(list, ['CPS', 'InPPS', 'OutPPS', 'InBPS', 'OutBPS'])
  return plain(list)
}

/** The first line, which ipvsadm has for the kernel's version and its table, is xlb's. */
export const asIpvsadm = (list: Listing, options: ListOptions): string =>
  [`IP Virtual Server version xlb ${VERSION} (size=${list.flows.capacity})`, ...rows(list, options)].join('\n')
