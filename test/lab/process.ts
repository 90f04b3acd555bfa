// SPDX-License-Identifier: Apache-2.0
// Child processes of a test: their output kept, their end waited for, never left behind.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'

export interface Result {
  stdout: string
  stderr: string
  /** The exit status; 128 + the signal's number where a signal ended it, as a shell says it. */
  code: number
}

const SIGNALS: Readonly<Record<string, number>> = { SIGINT: 2, SIGABRT: 6, SIGKILL: 9, SIGSEGV: 11, SIGTERM: 15 }
const KILL_AFTER_MS = 2_000

/** A running child process. `stop` ends it by its process id; nothing else is signalled. */
export class Tracked {
  readonly argv: readonly string[]
  stdout = ''
  stderr = ''
  /** Its result, once it has ended and its output is read. */
  readonly ended: Promise<Result>
  readonly #child: ChildProcess
  #result: Result | undefined
  #watchers = new Set<() => void>()

  constructor(argv: readonly string[], options: { env?: Record<string, string>; input?: string } = {}) {
    const [command = '', ...rest] = argv
    this.argv = argv
    this.#child = spawn(command, rest, { env: { ...process.env, ...options.env }, stdio: 'pipe' })
    this.#child.stdin?.on('error', () => {})
    this.#child.stdin?.end(options.input ?? '')
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => this.#take('stdout', text))
    this.#child.stderr?.setEncoding('utf8').on('data', (text: string) => this.#take('stderr', text))
    this.ended = this.#end()
  }

  get pid(): number {
    return this.#child.pid ?? 0
  }

  get running(): boolean {
    return this.#result === undefined
  }

  /** Resolves when stdout or stderr matches. Throws where the process ends, or `timeoutMs` passes, before. */
  async waitFor(pattern: RegExp, timeoutMs = 30_000): Promise<void> {
    const seen = () => pattern.test(this.stdout) || pattern.test(this.stderr)
    const deadline = Date.now() + timeoutMs
    while (!seen()) {
      if (!this.running) throw new Error(this.#describe(`ended before it said ${pattern}`))
      const leftMs = deadline - Date.now()
      if (leftMs <= 0) throw new Error(this.#describe(`did not say ${pattern} within ${timeoutMs} ms`))
      await this.#changed(leftMs)
    }
  }

  /** Sends the signal, then SIGKILL where it does not end within 2 s. Answers its result; idempotent. */
  async stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<Result> {
    if (this.running) this.#child.kill(signal)
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), KILL_AFTER_MS)
    try {
      return await this.ended
    } finally {
      clearTimeout(timer)
    }
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal)
  }

  async #end(): Promise<Result> {
    let code = 127
    try {
      const [status, signal] = (await once(this.#child, 'close')) as [number | null, NodeJS.Signals | null]
      code = status ?? 128 + (SIGNALS[signal ?? ''] ?? 0)
    } catch (error) {
      this.stderr += String(error)
    }
    this.#result = { stdout: this.stdout, stderr: this.stderr, code }
    this.#wake()
    return this.#result
  }

  #take(stream: 'stdout' | 'stderr', text: string): void {
    this[stream] += text
    this.#wake()
  }

  #wake(): void {
    for (const watcher of this.#watchers) watcher()
  }

  #changed(timeoutMs: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer)
        this.#watchers.delete(done)
        resolve()
      }
      const timer = setTimeout(done, timeoutMs)
      this.#watchers.add(done)
    })
  }

  #describe(what: string): string {
    return `${this.argv.join(' ')}: ${what}\nstdout: ${this.stdout}\nstderr: ${this.stderr}`
  }
}
