// SPDX-License-Identifier: Apache-2.0
// A lab for one test: scripts/lab-net's namespaces, commands and servers in them, and xlb on the director. Everything
// that a lab starts ends with its test, passed or failed.
import { fileURLToPath } from 'node:url'
import type { ExecutionContext } from 'ava'
import { type Result, Tracked } from './process.ts'

const fromRoot = (path: string): string => fileURLToPath(new URL(`../../${path}`, import.meta.url))
const LAB_NET = fromRoot('scripts/lab-net')
const CLI = fromRoot('dist/xlb.cjs')
const HTTP_SERVER = fromRoot('test/lab/http-server.js')
const UDP_SERVER = fromRoot('test/lab/udp-server.js')
const UDP_ASK = fromRoot('test/lab/udp-ask.js')
const HTTP_FROM = fromRoot('test/lab/http-from.js')
const LINE_SERVER = fromRoot('test/lab/line-server.js')
const LINE_CLIENT = fromRoot('test/lab/line-client.js')

export type Family = 'IPv4' | 'IPv6'

export interface LabOptions {
  /** Real servers rs1, rs2..., 3 if absent. */
  servers?: number
  /** Directors director, director2..., 1 if absent. */
  directors?: number
  /** 10.89.0.100 to 10.89.0.109; the first of them if absent. */
  vips?: readonly string[]
  /** IPv6: every host and VIP has an IPv6 address beside its IPv4 one, and it is those that the lab speaks of. */
  family?: Family
  /** False: no VIP on the director's eth0 (VRRP puts it there). */
  vipOnDirector?: boolean
}

export interface RunOptions {
  /** The command is killed after this; its code is then 137. 30,000 if absent. */
  timeoutMs?: number
  env?: Record<string, string>
  /** Its stdin; empty if absent. */
  input?: string
}

export interface Host {
  /** Of the lab's family. */
  address: string
  mac: string
}

/** An address as URLs and services name it: IPv6 in brackets. */
export const inUrl = (address: string): string => (address.includes(':') ? `[${address}]` : address)

/** The address of a family that a lab's host or VIP has beside this one: they end alike. */
export const ofFamily = (address: string, family: Family): string =>
  `${family === 'IPv6' ? 'fd00:89::' : '10.89.0.'}${address.split(/[.:]/).at(-1)}`

/** Who ends a lab: a test, or a hook with a teardown of its own. */
export type Registrar = Pick<ExecutionContext, 'teardown'> & Partial<Pick<ExecutionContext, 'timeout'>>

const TEST_MS = 120_000

let labs = 0

/** Network namespaces need root: a lab test is left out without it. */
export const hasRoot = (): boolean => process.getuid?.() === 0

export class Lab {
  /** The namespaces' prefix, and xlb's instance on the first director. Names this process, as `lab-net sweep` wants. */
  readonly prefix: string
  readonly family: Family
  /** Of the lab's family. */
  readonly vips: readonly string[]
  readonly #hosts = new Map<string, Host>()
  readonly #tracked: Tracked[] = []

  private constructor(prefix: string, family: Family, vips: readonly string[]) {
    this.prefix = prefix
    this.family = family
    this.vips = vips.map((vip) => ofFamily(vip, family))
  }

  /** Builds the lab and registers its end with the test (a hook, which has no teardown, hands in one of its own). Throws with lab-net's words where it cannot be built. */
  static async up(t: Registrar, options: LabOptions = {}): Promise<Lab> {
    // ava gives up after 10 s in which no test ends; on a machine that is busy a lab may need longer.
    t.timeout?.(TEST_MS)
    labs += 1
    const vips = options.vips ?? ['10.89.0.100']
    const lab = new Lab(`t${process.pid}n${labs}`, options.family ?? 'IPv4', vips)
    t.teardown(() => lab.#down())
    const argv = [LAB_NET, 'up', lab.prefix, '--servers', `${options.servers ?? 3}`]
    argv.push('--directors', `${options.directors ?? 1}`, ...vips.flatMap((vip) => ['--vip', vip]))
    if (lab.family === 'IPv6') argv.push('--ipv6')
    if (options.vipOnDirector === false) argv.push('--no-director-vip')
    const { stdout, stderr, code } = await new Tracked(argv).ended
    if (code !== 0) throw new Error(`lab-net up: exit ${code}: ${stderr}`)
    for (const line of stdout.trim().split('\n')) {
      const [name = '', address = '', mac = ''] = line.split(' ')
      lab.#hosts.set(name, { address: ofFamily(address, lab.family), mac })
    }
    return lab
  }

  /** Address and MAC of `client`, `director`, `rs1`... Throws for a host that the lab lacks. */
  host(name: string): Host {
    const host = this.#hosts.get(name)
    if (!host) throw new Error(`no host ${name} in this lab; it has ${[...this.#hosts.keys()].join(', ')}`)
    return host
  }

  /** The first VIP. */
  get vip(): string {
    return this.vips[0] ?? ''
  }

  /** The first VIP as URLs and services name it. */
  get vipInUrl(): string {
    return inUrl(this.vip)
  }

  /** Runs a command on a host to its end. Never throws for its exit status. */
  async run(host: string, argv: readonly string[], options: RunOptions = {}): Promise<Result> {
    const child = this.spawn(host, argv, options)
    const timer = setTimeout(() => child.kill('SIGKILL'), options.timeoutMs ?? 30_000)
    try {
      return await child.ended
    } finally {
      clearTimeout(timer)
    }
  }

  /** Starts a command on a host. It is stopped at the test's end where it still runs then. */
  spawn(host: string, argv: readonly string[], options: Omit<RunOptions, 'timeoutMs'> = {}): Tracked {
    // nsenter replaces itself by the command, so that the pid is the command's own.
    const child = new Tracked([`nsenter`, `--net=/run/netns/${this.prefix}-${host}`, '--', ...argv], options)
    this.#tracked.push(child)
    return child
  }

  /** curl on the client, `--max-time 5` unless the arguments say otherwise; stdout is the body. */
  curl(...argv: string[]): Promise<Result> {
    return this.run('client', ['curl', '--silent', '--show-error', '--max-time', '5', ...argv])
  }

  /** Asks for / at the VIP once from each of these ports of the client; the bodies, in order. */
  async httpFrom(ports: readonly number[]): Promise<string[]> {
    const { stdout } = await this.run('client', [process.execPath, HTTP_FROM, this.vip, '80', ...ports.map(String)])
    return stdout.trim().split('\n')
  }

  /** Starts test/lab/http-server.js on rs`server` (1 is the first); it answers `body`, or its host's name. */
  http(server: number, port: number, body = `rs${server}`): Promise<Tracked> {
    return this.#serve(`rs${server}`, [HTTP_SERVER, body, `${port}`])
  }

  /** Starts test/lab/line-server.js on rs`server`: it answers each line of a TCP connection with `NAME line`. */
  lines(server: number, port: number): Promise<Tracked> {
    return this.#serve(`rs${server}`, [LINE_SERVER, `rs${server}`, `${port}`])
  }

  /** Starts a UDP echo server on rs`server`: it answers `NAME datagram`, at its own address and at every VIP, of each family. */
  udp(server: number, port: number, name = `rs${server}`): Promise<Tracked> {
    const host = `rs${server}`
    const addresses = [this.host(host).address, ...this.vips]
    const others = this.family === 'IPv6' ? addresses.map((address) => ofFamily(address, 'IPv4')) : []
    return this.#serve(host, [UDP_SERVER, name, `${port}`, ...addresses, ...others])
  }

  /** Sends a datagram from the client `count` times, each from a new port or all from one; the answers, in order. */
  async askUdp(
    address: string,
    port: number,
    text: string,
    count = 1,
    ports: 'new' | 'same' = 'new',
  ): Promise<string[]> {
    const { stdout } = await this.run('client', [
      process.execPath,
      UDP_ASK,
      address,
      `${port}`,
      text,
      `${count}`,
      ports,
    ])
    return stdout.split('\n').filter((line) => line !== '')
  }

  /**
   * Opens `count` connections from the client to the VIP, or another address, and holds them, each exchanging a line every
   * `intervalMs` (0: none until the end). Resolves when all are open; see line-client.js for what it says at its end.
   */
  async holdLines(port: number, count: number, intervalMs: number, address = this.vip): Promise<Tracked> {
    const argv = [process.execPath, LINE_CLIENT, address, `${port}`, `${count}`, `${intervalMs}`]
    const client = this.spawn('client', argv)
    await client.waitFor(/^open /m, 20_000)
    return client
  }

  /** Runs xlb on a director: `lab.xlb(['list', '--json'])`. Further directors are instances of their own. */
  xlb(args: readonly string[], options: RunOptions & { director?: string } = {}): Promise<Result> {
    const { director = 'director', ...rest } = options
    return this.run(director, this.xlbArgv(args, director), rest)
  }

  /** Starts xlb on a director and lets it run: `lab.spawnXlb(['run', '-c', file])`. */
  spawnXlb(args: readonly string[], options: Omit<RunOptions, 'timeoutMs'> & { director?: string } = {}): Tracked {
    const { director = 'director', ...rest } = options
    return this.spawn(director, this.xlbArgv(args, director), rest)
  }

  /** The xlb instance of a director: its pins are under /sys/fs/bpf/xlb/INSTANCE. */
  instance(director = 'director'): string {
    return director === 'director' ? this.prefix : `${this.prefix}-${director}`
  }

  /** The words of an xlb on a director, for whoever runs it by another command. */
  xlbArgv(args: readonly string[], director = 'director'): string[] {
    return [process.execPath, CLI, '--instance', this.instance(director), ...args]
  }

  async #serve(host: string, argv: readonly string[]): Promise<Tracked> {
    const server = this.spawn(host, [process.execPath, ...argv])
    await server.waitFor(/^listening /m)
    return server
  }

  async #down(): Promise<void> {
    await Promise.all(this.#tracked.map((child) => child.stop()))
    // lab-net also ends what those left behind in the namespaces, and removes the pins: with them the programs go.
    const { stderr, code } = await new Tracked([LAB_NET, 'down', this.prefix]).ended
    if (code !== 0) throw new Error(`lab-net down ${this.prefix}: exit ${code}: ${stderr}`)
  }
}
