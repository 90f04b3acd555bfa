// SPDX-License-Identifier: Apache-2.0
// A verb that the instance's daemon performs: asked over its socket, and printed as if it had been performed here.
import { request } from 'node:http'
import { Refusal } from '../core/refusal.ts'
import { type GlobalOptions, makeOutput, type Output } from './context.ts'

/** What the daemon answers (src/api/answer.ts). */
interface Answer {
  result?: unknown
  text?: string
  notes?: string[]
  error?: { what: string; mend: string; usage?: boolean; faults?: unknown; verifierLog?: string }
}

/** A change may wait for answers to ARP, for a program's load, and for other verbs' turns. */
const ANSWER_WITHIN_MS = 120_000

const isNobodyThere = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && (error.code === 'ECONNREFUSED' || error.code === 'ENOENT')

const unreachable = (socket: string, error: unknown): Refusal => {
  const code = error instanceof Error && 'code' in error ? String(error.code) : String(error)
  if (code === 'EACCES' || code === 'EPERM') {
    return new Refusal(
      `${socket}: you may not talk to the daemon of xlb`,
      'run it with sudo, or be a member of the group that `api.group` names',
    )
  }
  return new Refusal(`${socket}: the daemon of xlb does not answer (${code})`, 'see: systemctl status xlb')
}

/** @returns undefined where nobody listens: the daemon was killed, or the host came up without it */
const post = (socket: string, path: string, input: unknown): Promise<Answer | undefined> =>
  new Promise((resolve, reject) => {
    const body = JSON.stringify(input, (_key, value) => (typeof value === 'bigint' ? `0x${value.toString(16)}` : value))
    const asked = request(
      {
        socketPath: socket,
        path,
        method: 'POST',
        headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
        timeout: ANSWER_WITHIN_MS,
      },
      (response) => {
        const pieces: Buffer[] = []
        response.on('data', (piece: Buffer) => pieces.push(piece))
        response.on('error', (error) => reject(unreachable(socket, error)))
        response.on('end', () => {
          try {
            resolve(JSON.parse(Buffer.concat(pieces).toString('utf8')) as Answer)
          } catch {
            reject(unreachable(socket, `status ${response.statusCode}, no JSON`))
          }
        })
      },
    )
    asked.on('timeout', () => asked.destroy(new Error(`no answer within ${ANSWER_WITHIN_MS / 1000} s`)))
    asked.on('error', (error) => (isNobodyThere(error) ? resolve(undefined) : reject(unreachable(socket, error))))
    asked.end(body)
  })

/** Words that the daemon cannot make sense of by itself: files are read here, as whoever calls may read them. */
const withFiles = async (verb: string, input: Record<string, unknown>): Promise<Record<string, unknown>> => {
  if (verb === 'filter load') {
    const { readText } = await import('./filter.ts')
    const words = input.words as string[]
    const file = words.at(-1)
    return file === undefined ? input : { ...input, text: readText(file) }
  }
  if (verb === 'restore') {
    const { readValues } = await import('../config/read.ts')
    return { ...input, values: readValues(String(input.file), process.env, '; nothing was changed') }
  }
  return input
}

const thrown = ({ what, mend, usage, faults, verifierLog }: NonNullable<Answer['error']>): Refusal =>
  Object.assign(new Refusal(what, mend, { usage: usage === true }), {
    ...(faults === undefined ? {} : { faults }),
    ...(verifierLog === undefined ? {} : { verifierLog }),
  })

const pathOf = (verb: string): string => `/v1/${verb.replaceAll(' ', '/')}`

/** @throws Refusal that the daemon answered with */
const ask = async (socket: string, verb: string, input: unknown): Promise<Answer | undefined> => {
  const answer = await post(socket, pathOf(verb), input)
  if (answer?.error !== undefined) throw thrown(answer.error)
  return answer
}

const print = (output: Output, { result, text = '', notes = [] }: Answer): void => {
  for (const note of notes) output.note(note)
  output.answer(result, text)
}

/** What `save` prints is a file, whatever else is asked for. */
const save = async (text: string, file: string | undefined): Promise<void> => {
  if (file === undefined) process.stdout.write(text)
  else (await import('./write-whole.ts')).writeWhole(file, text)
}

const awaitDrained = async (output: Output, socket: string, input: Record<string, unknown>, seconds: number) => {
  const { awaitDrained: wait } = await import('./drained.ts')
  const look = async () => {
    const answer = await ask(socket, 'backend remaining', input)
    if (answer === undefined) throw unreachable(socket, 'it has ended; the backend stays drained')
    return answer.result as Awaited<ReturnType<Parameters<typeof wait>[3]>>
  }
  const drained = { service: String(input.service), backend: String(input.address) }
  await wait(output, drained, seconds, look)
}

/**
 * Has the daemon perform a verb, and prints what it answers.
 *
 * @param input the verb's words and options by their names
 * @returns false where no daemon listens: nothing was done then
 * @throws Refusal as the verb does
 */
export const askDaemon = async (
  socket: string,
  verb: string,
  input: Record<string, unknown>,
  options: GlobalOptions,
): Promise<boolean> => {
  const { deadline, output: file, ...rest } = await withFiles(verb, input)
  const answer = await ask(socket, verb, verb === 'save' ? { ...rest, json: options.json === true } : rest)
  if (answer === undefined) return false
  const output = makeOutput(options)
  if (verb === 'save') await save(answer.text ?? '', file as string | undefined)
  else if (typeof deadline === 'number') await awaitDrained(output, socket, rest, deadline)
  else print(output, answer)
  return true
}
