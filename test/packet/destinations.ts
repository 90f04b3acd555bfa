// SPDX-License-Identifier: Apache-2.0
// The notes of lblc and lblcr as a test sees and edits them.
import { swap32 } from '../../src/core/address.ts'
import { formatIpv4 } from '../../src/core/ip.ts'
import { type DestinationNote, readDestinations } from '../../src/dataplane/destinations.ts'
import { Destination, DestinationState, DestinationValue } from '../../src/dataplane/layout.gen.ts'
import { readLive } from '../../src/dataplane/reader.ts'
import type { Balancer } from './plane.ts'
import { numberOf } from './ring.ts'

const { DESTINATION_USED_SHIFT, DESTINATION_CHANGED_SHIFT, DESTINATION_AGE_MASK, DESTINATION_STATE_MASK } =
  DestinationValue

/** The address and the service's id in the name of a note of IPv4. */
const addressOf = ({ name }: DestinationNote): string => formatIpv4(swap32(Number(name & 0xffffffffn)))
const serviceOf = ({ name }: DestinationNote): number => Number(name >> 32n)

/** Notes that have not ended, by address of IPv4. */
export const notes = (balancer: Balancer): Map<string, DestinationNote> =>
  new Map([...readDestinations(balancer.plane, balancer.plane.age())].map((note) => [addressOf(note), note]))

/** The numbers of the backends that are noted for each address of a service. */
export const remembered = (balancer: Balancer, service: string): Record<string, (number | undefined)[]> => {
  const found = readLive(balancer.plane).services.get(service)
  const numbers = new Map(found?.backends.map(({ index, want }) => [index, numberOf(want.address)]))
  return Object.fromEntries(
    [...readDestinations(balancer.plane, balancer.plane.age())]
      .filter((note) => serviceOf(note) === found?.service.id)
      .map((note) => [addressOf(note), note.backends.map((index) => numbers.get(index))]),
  )
}

/** Makes every note one that was last used, or last changed, so many units of age ago. */
export const age = (balancer: Balancer, { idle, unchanged }: { idle?: number; unchanged?: number }): void => {
  const words = new BigUint64Array(balancer.plane.buffer('destinations'))
  const now = balancer.plane.age()
  const set = (value: bigint, shift: number, ages: number): bigint => {
    const mask = BigInt(DESTINATION_AGE_MASK)
    return (value & ~(mask << BigInt(shift))) | ((BigInt.asUintN(64, BigInt(now - ages)) & mask) << BigInt(shift))
  }
  for (let at = Destination.offset.value / 8; at < words.length; at += Destination.size / 8) {
    let value = words[at] ?? 0n
    if (Number(value & BigInt(DESTINATION_STATE_MASK)) <= DestinationState.DESTINATION_CLAIMED) continue
    if (idle !== undefined) value = set(value, DESTINATION_USED_SHIFT, idle)
    if (unchanged !== undefined) value = set(value, DESTINATION_CHANGED_SHIFT, unchanged)
    words[at] = value
  }
}
