// SPDX-License-Identifier: Apache-2.0
// Commands of other people's making - notifications, checks - with nothing of what this process may do: as an unprivileged user, without
// a capability and no way to gain one, in an environment of a few words, for a bounded time, with bounded output. No shell takes
// part.
import { type ChildProcess, spawn } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { Refusal } from '../core/refusal.ts'
import { Capability, effectiveCapabilities } from './capabilities.ts'

export interface Unprivileged {
  /** The program - a path, or found in PATH - and its arguments. */
  command: readonly string[]
  /** A name of /etc/passwd, as whom it runs. */
  user: string
  timeoutMs: number
  /** Beside PATH, HOME and LANG. */
  environment?: Readonly<Record<string, string>>
  /** Its standard input. */
  input?: string
  /** Octets that are kept of each, stdout and stderr; the rest is thrown away. */
  outputMax?: number
}

export interface Outcome {
  /** Its exit status; undefined: a signal ended it, or it could not be started. */
  code: number | undefined
  signal: string | undefined
  /** It took too long, and was killed. */
  timedOut: boolean
  /** It could not be started: why. */
  fault: string | undefined
  stdout: string
  stderr: string
  /** Something of stdout or stderr was thrown away. */
  truncated: boolean
}

export const OUTPUT_MAX = 4096
const PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
/** From SIGTERM to SIGKILL. */
const GRACE_MS = 1000

export interface Account {
  uid: number
  gid: number
}

/** @throws Refusal where there is no such user, or it is root */
export const accountOf = (user: string, passwd = readFileSync('/etc/passwd', 'utf8')): Account => {
  const line = passwd.split('\n').find((each) => each.startsWith(`${user}:`))
  const [, , uid = '', gid = ''] = line?.split(':') ?? []
  if (line === undefined || !/^[0-9]+$/.test(uid) || !/^[0-9]+$/.test(gid)) {
    throw new Refusal(`user '${user}': is not in /etc/passwd`, 'name a user that is, such as nobody')
  }
  if (uid === '0') throw new Refusal(`user '${user}': is root`, 'name an unprivileged user, such as nobody')
  return { uid: Number(uid), gid: Number(gid) }
}

/**
 * What setpriv(1) has to change. A process that may not change its user - as the service's own user it may not - runs commands as
 * itself, but without its capabilities.
 * @throws Refusal where the command would be root's
 */
const changes = (user: string): string[] => {
  const held = effectiveCapabilities()
  const isBounded = held.has(Capability.SETPCAP) ? ['--bounding-set=-all'] : []
  const none = ['--no-new-privs', '--inh-caps=-all', '--ambient-caps=-all', ...isBounded]
  if (held.has(Capability.SETUID) && held.has(Capability.SETGID)) {
    const { uid, gid } = accountOf(user)
    return [`--reuid=${uid}`, `--regid=${gid}`, '--clear-groups', ...none]
  }
  if (process.geteuid?.() === 0) {
    throw new Refusal(
      `user '${user}': xlb runs as root without CAP_SETUID and CAP_SETGID, and cannot become another user`,
      'let the service run as a user of its own (User=xlb), or give it both',
    )
  }
  return none
}

/** What a command has said so far, as much as is kept. */
class Kept {
  readonly #most: number
  readonly #parts: Buffer[] = []
  #size = 0
  truncated = false

  constructor(most: number) {
    this.#most = most
  }

  take(part: Buffer): void {
    const room = this.#most - this.#size
    if (part.length > room) this.truncated = true
    if (room <= 0) return
    this.#parts.push(part.subarray(0, room))
    this.#size += Math.min(part.length, room)
  }

  get text(): string {
    return Buffer.concat(this.#parts).toString('utf8')
  }
}

/** A command's process group: what it started ends with it. */
const killGroup = (child: ChildProcess, signal: NodeJS.Signals): void => {
  if (child.pid === undefined) return
  try {
    process.kill(-child.pid, signal)
  } catch {
    // It has ended.
  }
}

/**
 * Runs a command to its end, or to that of its time. What it leaves running in its process group is killed.
 * @throws Refusal where it could not be run without privilege; whatever becomes of it else is an Outcome
 */
export const runUnprivileged = (asked: Unprivileged): Promise<Outcome> => {
  const argv = [...changes(asked.user), '--', ...asked.command]
  const kept = { stdout: new Kept(asked.outputMax ?? OUTPUT_MAX), stderr: new Kept(asked.outputMax ?? OUTPUT_MAX) }
  const child = spawn('/usr/bin/setpriv', argv, {
    cwd: '/',
    env: { PATH, HOME: '/', LANG: 'C.UTF-8', ...asked.environment },
    stdio: ['pipe', 'pipe', 'pipe'],
    detached: true,
  })
  child.stdout.on('data', (part: Buffer) => kept.stdout.take(part))
  child.stderr.on('data', (part: Buffer) => kept.stderr.take(part))
  // One that does not read what it is given.
  child.stdin.on('error', () => {})
  child.stdin.end(asked.input ?? '')

  return new Promise((resolve) => {
    let timedOut = false
    let fault: string | undefined
    let grace: NodeJS.Timeout | undefined
    const limit = setTimeout(() => {
      timedOut = true
      killGroup(child, 'SIGTERM')
      grace = setTimeout(() => killGroup(child, 'SIGKILL'), GRACE_MS)
    }, asked.timeoutMs)
    const finish = (code: number | null, signal: NodeJS.Signals | null): void => {
      clearTimeout(limit)
      clearTimeout(grace)
      resolve({
        code: code ?? undefined,
        signal: signal ?? undefined,
        timedOut,
        fault,
        stdout: kept.stdout.text,
        stderr: kept.stderr.text,
        truncated: kept.stdout.truncated || kept.stderr.truncated,
      })
    }
    child.on('error', (error) => {
      fault = error.message
      finish(null, null)
    })
    // The command is what ended; what it has left behind would keep its output open.
    child.on('exit', () => killGroup(child, 'SIGKILL'))
    child.on('close', finish)
  })
}
