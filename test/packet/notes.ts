// SPDX-License-Identifier: Apache-2.0
// The notes of persistence as a test sees and edits them.
import { type Note, readNotes } from '../../src/dataplane/clients.ts'
import { Client, ClientState, ClientValue } from '../../src/dataplane/layout.gen.ts'
import type { Balancer } from './plane.ts'

const WORDS = Client.size / 8

/** Notes that have not ended, by client. */
export const notes = (balancer: Balancer): Map<string, Note> =>
  new Map([...readNotes(balancer.plane, balancer.plane.age())].map((note) => [note.address, note]))

const editAll = (balancer: Balancer, edit: (value: bigint) => bigint): void => {
  const words = new BigUint64Array(balancer.plane.buffer('clients'))
  for (let at = Client.offset.value / 8; at < words.length; at += WORDS) {
    const value = words[at] ?? 0n
    if (Number(value >> BigInt(ClientValue.CLIENT_STATE_SHIFT)) % 16 <= ClientState.CLIENT_CLAIMED) continue
    words[at] = edit(value)
  }
}

/** Makes every note one that ends in so many units of age; below 0: it has ended. */
export const endIn = (balancer: Balancer, ages: number): void =>
  editAll(balancer, (value) => {
    const mask = BigInt(ClientValue.CLIENT_AGE_MASK)
    const until = BigInt.asUintN(64, BigInt(balancer.plane.age() + ages)) & mask
    const shift = BigInt(ClientValue.CLIENT_AGE_SHIFT)
    return (value & ~(mask << shift)) | (until << shift)
  })

/** Units of age until each note ends, with those that have ended. */
export const agesLeft = (balancer: Balancer): number[] => [...notes(balancer).values()].map((note) => note.agesLeft)

/** Names of the notes' states. */
export const states = (balancer: Balancer): string[] =>
  [...notes(balancer).values()].map(({ state }) => Object.keys(ClientState)[state] ?? '')
