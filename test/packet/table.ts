// SPDX-License-Identifier: Apache-2.0
// Tables of frames: what goes in, what comes out, and why.
import test from 'ava'
import { inSegment, OWN_MAC, rewritten } from './frames.ts'
import { type Balancer, backendMac, type ReasonName, VERDICT } from './plane.ts'

export interface Case {
  /** The rule, as a sentence. */
  name: string
  frame: Buffer
  /** Where it goes: to a backend (number), or to the stack, or nowhere. */
  goes: number | 'stack' | 'nowhere'
  reason: ReasonName
  /** The segment of the backend, where it is not the untagged one. */
  vlan?: number
}

/**
 * One test for each case, its title after `family` where one is given. The frame leaves as it came, but for MACs and segment of one
 * that is sent out; one reason moves, by one.
 */
export const testTable = (balancer: () => Balancer, cases: readonly Case[], family = ''): void => {
  for (const { name, frame, goes, reason, vlan } of cases) {
    test(family === '' ? name : `${family}: ${name}`, (t) => {
      const before = Buffer.from(frame)
      const sent = balancer().send(frame)
      const sentOut = typeof goes === 'number'
      const verdict = sentOut ? VERDICT.TX : goes === 'stack' ? VERDICT.PASS : VERDICT.DROP
      const out = sentOut ? rewritten(inSegment(before, vlan), backendMac(goes), OWN_MAC) : before
      t.deepEqual(sent.reasons, { [reason]: 1 })
      t.is(sent.verdict, verdict)
      t.is(sent.frame.toString('hex'), out.toString('hex'))
    })
  }
}
