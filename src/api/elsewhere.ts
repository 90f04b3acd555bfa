// SPDX-License-Identifier: Apache-2.0
// Verbs that are no requests, why, and where to run them. Whoever asks for one of them is told so.
import { Refusal } from '../core/refusal.ts'

interface Elsewhere {
  why: string
  where: string
}

export const ELSEWHERE: Readonly<Record<string, Elsewhere>> = {
  capture: {
    why: 'it is a stream of frames with what clients wrote in them, for whoever holds CAP_SYS_ADMIN',
    where: 'run `xlb capture` on the director itself, as root',
  },
  upgrade: {
    why: "it puts in the program of the caller's build, and the daemon has its own; it takes CAP_SYS_ADMIN",
    where: 'run `xlb upgrade` on the director itself, as root, by the build that shall be in force',
  },
  bench: {
    why: 'it measures a machine for minutes, with programs of its own, and touches no instance',
    where: 'run `xlb bench` on the machine itself, as root',
  },
  check: {
    why: 'it reads files as whoever calls it may, and asks neither the kernel nor the daemon',
    where: 'run `xlb check -c FILE` where the file is; it needs no privilege',
  },
  run: {
    why: 'it is the daemon itself',
    where: 'it runs already; for its file to be read again: POST /v1/reload',
  },
}

export const elsewhere = (verb: string): Refusal | undefined => {
  const found = Object.hasOwn(ELSEWHERE, verb) ? ELSEWHERE[verb] : undefined
  return found && new Refusal(`xlb ${verb} is no request: ${found.why}`, found.where, { usage: true })
}

/** For the document. */
export const elsewhereText = (): string =>
  Object.entries(ELSEWHERE)
    .map(([verb, { why, where }]) => `- \`${verb}\`: ${why}. Instead: ${where}.`)
    .join('\n')
