// SPDX-License-Identifier: Apache-2.0
// A verb that the instance's daemon performs: asked over its socket, and printed as if it had been performed here.
import { request } from 'node:http'
import { Refusal } from '../core/refusal.ts'
import { type GlobalOptions, makeOutput, type Output } from './context.ts'
import { isNobodyThere, otherVersion, unreachable } from './unreachable.ts'

/** What the daemon answers (src/api/answer.ts). */
interface Answer {
  result?: unknown
  text?: string
  notes?: string[]
  error?: { what: string; mend: string; usage?: boolean; faults?: unknown; verifierLog?: string }
}

/** A change may wait for answers to ARP, for a program's load, and for other verbs' turns. */
const ANSWER_WITHIN_MS = 120_000

/** What a command does by itself where the daemon that runs does not know it: one of another version. */
const HERE_TOO: readonly string[] = ['diff', 'doctor']

const NOT_FOUND = 404

/** @returns undefined where nobody listens: the daemon was killed, or the host came up without it */
const post = (
  socket: string,
  path: string,
  input: unknown,
  withinMs: number,
): Promise<{ status: number; answer: Answer } | undefined> =>
  new Promise((resolve, reject) => {
    const body = JSON.stringify(input, (_key, value) => (typeof value === 'bigint' ? `0x${value.toString(16)}` : value))
    const asked = request(
      {
        socketPath: socket,
        path,
        method: 'POST',
        headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
        timeout: withinMs,
      },
      (response) => {
        const pieces: Buffer[] = []
        response.on('data', (piece: Buffer) => pieces.push(piece))
        response.on('error', (error) => reject(unreachable(socket, error)))
        response.on('end', () => {
          try {
            const answer = JSON.parse(Buffer.concat(pieces).toString('utf8')) as Answer
            resolve({ status: response.statusCode ?? 0, answer })
          } catch {
            reject(unreachable(socket, `status ${response.statusCode}, no JSON`))
          }
        })
      },
    )
    asked.on('timeout', () => asked.destroy(new Error(`not within ${withinMs / 1000} s; it may yet do what was asked`)))
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
  if (verb === 'diff') {
    const { readValues } = await import('../config/read.ts')
    const file = String(input.config)
    return { file, values: readValues(file, process.env) }
  }
  return input
}

/** Whoever uses a command reads no document of the API: what is wrong with its words, the command line has found before. */
const mendOf = (mend: string): string =>
  mend.includes('/openapi.json') ? otherVersion('the words of this xlb').mend : mend

const thrown = ({ what, mend, usage, faults, verifierLog }: NonNullable<Answer['error']>): Refusal =>
  Object.assign(new Refusal(what, mendOf(mend), { usage: usage === true }), {
    ...(faults === undefined ? {} : { faults }),
    ...(verifierLog === undefined ? {} : { verifierLog }),
  })

const pathOf = (verb: string): string => `/v1/${verb.replaceAll(' ', '/')}`

/** What is to take long may. */
const withinOf = ({ listen }: Record<string, unknown>): number =>
  ANSWER_WITHIN_MS + (typeof listen === 'number' ? 1000 * listen : 0)

/**
 * @returns undefined where this process is to do it by itself
 * @throws Refusal that the daemon answered with
 */
const ask = async (socket: string, verb: string, input: Record<string, unknown>): Promise<Answer | undefined> => {
  const answered = await post(socket, pathOf(verb), input, withinOf(input))
  if (answered === undefined) return undefined
  const { status, answer } = answered
  if (status === NOT_FOUND) {
    if (HERE_TOO.includes(verb)) return undefined
    throw otherVersion(`xlb ${verb}`)
  }
  if (answer.error !== undefined) throw thrown(answer.error)
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

/** As the command exits that has examined by itself. */
const exitCodeOf = async (result: unknown): Promise<number> => {
  const { isIll } = await import('../core/doctor/judge.ts')
  const report = result as { findings?: Parameters<typeof isIll>[0]['findings'] }
  return isIll({ findings: report.findings ?? [] }) ? 1 : 0
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
  if (verb === 'doctor') process.exitCode = await exitCodeOf(answer.result)
  return true
}
