// SPDX-License-Identifier: Apache-2.0
// What a daemon tells the service manager that started it (sd_notify(3)): that it is ready, loads its configuration anew, ends; a line
// of status; and at its interval that it is alive. Where nobody asked to be told, nothing is sent.
import type { System } from '../dataplane/native.ts'

/** What a service manager sets (sd_notify(3), sd_watchdog_enabled(3)). */
type Asked = Readonly<Record<string, string | undefined>>

export interface ServiceManagerPorts {
  system: Pick<System, 'sendDatagram'>
  environment: Asked
  /** Of this process: WATCHDOG_PID may name another. */
  pid: number
  /** CLOCK_MONOTONIC, nanoseconds. */
  monotonicNs: () => bigint
  /** Hears once why nobody could be told. */
  onFault: (fault: Error) => void
}

export class ServiceManager {
  readonly #ports: ServiceManagerPorts
  readonly #socket: string | undefined
  #hasFailed = false

  constructor(ports: ServiceManagerPorts) {
    this.#ports = ports
    const socket = ports.environment.NOTIFY_SOCKET
    // sd_notify(3): a path, or an abstract name. AF_VSOCK is for virtual machines.
    this.#socket = socket !== undefined && /^[/@]./.test(socket) ? socket : undefined
  }

  /** Does anybody want to be told? */
  get isAsked(): boolean {
    return this.#socket !== undefined
  }

  /** How often it wants to hear `watchdog`, milliseconds: half of the time after which it acts. Undefined: never. */
  get watchdogMs(): number | undefined {
    const { WATCHDOG_USEC: text = '', WATCHDOG_PID: pid } = this.#ports.environment
    const microseconds = /^[0-9]{1,15}$/.test(text) ? Number(text) : 0
    if (!this.isAsked || microseconds === 0) return undefined
    if (pid !== undefined && pid !== '' && Number(pid) !== this.#ports.pid) return undefined
    return Math.max(1, Math.floor(microseconds / 2000))
  }

  /** Starting or reloading is done. */
  ready(status: string): void {
    this.#tell({ READY: '1', STATUS: status })
  }

  /** Until the next `ready`. */
  reloading(status: string): void {
    const microseconds = this.#ports.monotonicNs() / 1000n
    this.#tell({ RELOADING: '1', MONOTONIC_USEC: `${microseconds}`, STATUS: status })
  }

  stopping(status: string): void {
    this.#tell({ STOPPING: '1', STATUS: status })
  }

  /** One line for people: `systemctl status` shows it. */
  status(text: string): void {
    this.#tell({ STATUS: text })
  }

  watchdog(): void {
    this.#tell({ WATCHDOG: '1' })
  }

  /**
   * Tells at its interval that this process is alive, as long as `isWell` says so: a process that turns its event loop and does
   * none of its work is to be restarted too. A process is not kept running by it.
   * @returns what ends it
   */
  startWatchdog(isWell: () => boolean): () => void {
    const intervalMs = this.watchdogMs
    if (intervalMs === undefined) return () => {}
    const timer = setInterval(() => {
      if (isWell()) this.watchdog()
    }, intervalMs)
    timer.unref()
    return () => clearInterval(timer)
  }

  #tell(fields: Readonly<Record<string, string>>): void {
    if (this.#socket === undefined) return
    // A newline begins another assignment.
    const lines = Object.entries(fields).map(([name, value]) => `${name}=${value.replaceAll(/[\n\r]+/g, ' ')}`)
    try {
      this.#ports.system.sendDatagram(this.#socket, lines.join('\n'))
    } catch (error) {
      if (!this.#hasFailed) this.#ports.onFault(error instanceof Error ? error : new Error(String(error)))
      this.#hasFailed = true
    }
  }
}

/** The service manager of this process. */
export const serviceManager = (
  system: Pick<System, 'sendDatagram'>,
  onFault: ServiceManagerPorts['onFault'],
): ServiceManager =>
  new ServiceManager({
    system,
    environment: process.env,
    pid: process.pid,
    monotonicNs: () => process.hrtime.bigint(),
    onFault,
  })
