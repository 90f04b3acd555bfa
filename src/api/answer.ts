// SPDX-License-Identifier: Apache-2.0
// What a request is answered with: a verb's result, the text that a person reads of it, and what there is to say beside.
import type { Context, Output } from '../commands/context.ts'
import { plain } from '../commands/context.ts'
import { Refusal } from '../core/refusal.ts'

export interface Answer {
  result: unknown
  text: string
  notes: string[]
}

export interface Failure {
  error: { what: string; mend: string; usage: boolean; faults?: unknown; verifierLog?: unknown }
}

/** Performs a verb on a context whose output is kept. */
export const answerOf = async (
  context: Omit<Context, keyof Output>,
  run: (context: Context) => void | Promise<void>,
): Promise<Answer> => {
  const answer: Answer = { result: null, text: '', notes: [] }
  await run({
    ...context,
    json: false,
    answer: (value, text) => {
      answer.result = value ?? null
      answer.text = text
    },
    note: (text) => answer.notes.push(text),
  })
  return answer
}

/** As JSON: numbers of 64 bits as JSON has them. */
export const serialize = (value: unknown): string => JSON.stringify(value, plain)

const CONFLICT = 409
const BAD_REQUEST = 400
const BROKEN = 500

/** 400 where the words of a request are wrong, 409 where the world is otherwise than it takes for granted, 500 where xlb is broken. */
export const failureOf = (error: unknown): { status: number; failure: Failure } => {
  if (!(error instanceof Refusal)) {
    const what = error instanceof Error ? error.message : String(error)
    const verifierLog = error instanceof Error && 'verifierLog' in error ? error.verifierLog : undefined
    const log = verifierLog === undefined ? {} : { verifierLog }
    return {
      status: BROKEN,
      failure: { error: { what, mend: "see the daemon's log: journalctl -u xlb -n 50", usage: false, ...log } },
    }
  }
  const faults = 'faults' in error ? error.faults : undefined
  return {
    status: error.usage ? BAD_REQUEST : CONFLICT,
    failure: {
      error: { what: error.message, mend: error.mend, usage: error.usage, ...(faults === undefined ? {} : { faults }) },
    },
  }
}
