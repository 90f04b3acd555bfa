// SPDX-License-Identifier: Apache-2.0
// What became of a case's frames.
import type { Load } from '../packet/counted.ts'
import type { Case } from './cases.ts'
import type { Flow } from './traffic.ts'

/** A real server by number, or nobody. */
export type Server = number | undefined

export interface Answers {
  /** Of each frame. */
  servers: Server[]
  /** What each server has at the end. */
  loads: Map<number, Load>
}

/** Of each frame. */
export const flowsOf = ({ steps }: Case): Flow[] => steps.flatMap((step) => (step.kind === 'frame' ? [step.flow] : []))

/** Whom each connection was given to, in the order in which they were opened. */
export const givenTo = (each: Case, servers: readonly Server[]): Server[] => {
  const given: Server[] = []
  for (const [i, { opened }] of flowsOf(each).entries()) if (!(opened in given)) given[opened] = servers[i]
  return given
}
