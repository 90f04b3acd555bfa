// SPDX-License-Identifier: Apache-2.0
// `xlb run` in a lab: its configuration file, its process, and its socket.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { ExecutionContext } from 'ava'
import { pathsOf } from '../../src/shell/instance.ts'
import type { Lab } from './lab.ts'
import type { Tracked } from './process.ts'
import type { Listing } from './xlb.ts'

export interface LabDaemon {
  file: string
  process: Tracked
}

/** What the file says; JSON is YAML. */
export const configure = (file: string, config: unknown): void => writeFileSync(file, JSON.stringify(config))

export const configFile = (t: ExecutionContext): string => {
  const folder = mkdtempSync(join(tmpdir(), 'xlb-daemon-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  return join(folder, 'xlb.yaml')
}

/** Starts a daemon on the director and waits until it is ready. */
export const startDaemon = async (lab: Lab, file: string, env: Record<string, string> = {}): Promise<Tracked> => {
  const daemon = lab.spawnXlb(['run', '-c', file], { env })
  await daemon.waitFor(/"msg":"ready"/)
  return daemon
}

export interface HttpAnswer {
  status: number
  body: string
}

/** A request to the daemon's socket, as it stands. */
export const ask = (
  socketPath: string,
  method: string,
  path: string,
  body = '',
  headers: Record<string, string> = { 'content-type': 'application/json' },
): Promise<HttpAnswer> =>
  new Promise((resolve, reject) => {
    const asked = request({ socketPath, method, path, headers }, (response) => {
      let text = ''
      response.setEncoding('utf8')
      response.on('data', (piece: string) => {
        text += piece
      })
      response.on('end', () => resolve({ status: response.statusCode ?? 0, body: text }))
      response.on('error', reject)
    })
    asked.on('error', reject)
    asked.end(body)
  })

/** What the daemon answers to a verb: as the command prints it, which asks it too, without a command's start. @throws where it refuses */
export const answerOf = async <T>(
  lab: Lab,
  verb: string,
  input: unknown = {},
): Promise<{ result: T; text: string }> => {
  const { status, body } = await ask(pathsOf(lab.instance()).socket, 'POST', `/v1/${verb}`, JSON.stringify(input))
  if (status !== 200) throw new Error(`${verb}: ${status}: ${body}`)
  return JSON.parse(body)
}

export const listed = async (lab: Lab): Promise<Listing> => (await answerOf<Listing>(lab, 'list')).result

interface Status {
  problems: { severity: string; what: string; since: string | null; mend: string }[]
}

/** What `xlb status` says is wrong, and how badly. */
export const problems = async (lab: Lab): Promise<string[]> =>
  (await answerOf<Status>(lab, 'status')).result.problems.map(({ severity, what }) => `${severity}: ${what}`)

/** Looks until it is so. @throws Error with what was looked for, after `withinMs` */
export const until = async (
  what: string,
  withinMs: number,
  look: () => boolean | Promise<boolean>,
): Promise<number> => {
  const begun = performance.now()
  while (!(await look())) {
    if (performance.now() - begun > withinMs) throw new Error(`${what}: not within ${withinMs} ms`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
  return performance.now() - begun
}
