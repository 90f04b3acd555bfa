// SPDX-License-Identifier: Apache-2.0
// `xlb run`: everything put together, and the signals. Its end, however it comes, stops no packet: what is attached stays.
import { mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { FastifyInstance } from 'fastify'
import { CONTENT_TYPE, MetricsExporter } from '../api/metrics.ts'
import { makeServer, type ServerOptions } from '../api/server.ts'
import type { Context, Output } from '../commands/context.ts'
import { formatService, parseBackend, parseService } from '../core/address.ts'
import { Refusal } from '../core/refusal.ts'
import type { DaemonFacts } from '../core/status.ts'
import { VERSION } from '../core/version.ts'
import type { Native } from '../dataplane/native.ts'
import { demandPrivilege, type InstancePaths, runFolder } from '../shell/instance.ts'
import { Notifier } from '../shell/notifier.ts'
import { runUnprivileged } from '../shell/unprivileged.ts'
import { nodePorts, Watcher } from '../shell/watcher.ts'
import { Controller } from './controller.ts'
import { LoadedConfig } from './loaded-config.ts'
import { type Logger, logHappening } from './logging.ts'
import { ownVerbs, type Reload } from './own-verbs.ts'
import { processMetrics } from './process-metrics.ts'
import { listenOnSocket, listenOnTcp } from './sockets.ts'

export interface DaemonOptions {
  native: Native
  paths: InstancePaths
  file: string
  environment: NodeJS.ProcessEnv
  log: Logger
  /** Hears of each reload, whoever asked for it: was the file taken? */
  onReload?: (taken: boolean) => void
}

/** How often everything is looked at: what somebody else edited is mended, and what came back is taken in. */
const RECONCILE_EVERY_MS = 1000
/** How long a backend that is named in a request may take to answer ARP, as for a verb without a daemon. */
const ANSWER_MS = 3500
const LOOK_EVERY_MS = 20

/** @throws Refusal where a daemon of this instance runs already. @returns ends the claim */
const claimInstance = (native: Native, paths: InstancePaths): (() => void) => {
  mkdirSync(runFolder(paths), { recursive: true, mode: 0o755 })
  const path = join(runFolder(paths), 'daemon.lock')
  const descriptor = native.system.tryLock(path)
  if (descriptor < 0) {
    throw new Refusal(
      `a daemon of instance ${paths.name} runs already`,
      `see: fuser ${path}; or choose another --instance`,
    )
  }
  return () => {
    rmSync(path, { force: true })
    native.system.unlock(descriptor)
  }
}

export class Daemon {
  readonly #options: DaemonOptions
  readonly #controller: Controller
  readonly #loaded: LoadedConfig
  readonly #context: Omit<Context, keyof Output>
  readonly #servers: FastifyInstance[] = []
  readonly #exporter = new MetricsExporter({ version: VERSION })
  readonly #processMetrics = processMetrics()
  readonly #startedMs = Date.now()
  #release: () => void = () => {}
  #timer: NodeJS.Timeout | undefined
  /** When the last look at everything succeeded, by performance.now(). */
  #lookedMs = performance.now()
  #watcher: Watcher | undefined

  constructor(options: DaemonOptions) {
    const { native, paths, file, environment, log } = options
    this.#options = options
    this.#loaded = new LoadedConfig(file)
    const notifier = new Notifier(
      {
        run: runUnprivileged,
        onFault: ({ kind, subject, to }, why) => log.warn({ kind, subject, to }, `notify: ${why}`),
      },
      undefined,
    )
    this.#controller = new Controller({
      native,
      paths,
      file,
      environment,
      tell: (each) => logHappening(log, each),
      configured: (config) => {
        notifier.configure(config.notify)
        this.#loaded.take(config)
      },
      quietly: (what, action) => this.#quietly(what, action),
    })
    this.#controller.events.follow(({ id: _, ...event }) => notifier.tell(event))
    this.#context = {
      native,
      paths,
      session: (action) => this.#controller.session(action),
      daemon: {
        facts: (session) => ({ ...this.#facts(), pending: this.#loaded.pending(session) }),
        interfaces: () => this.#controller.interfaces.wanted,
        written: () => this.#loaded.written,
        unreached: (address) => this.#controller.ways.unreached.get(address),
        told: (service, address) => this.#controller.standings.of(service, address),
        policies: () => this.#controller.standings.policies,
        attached: (name, mode) => this.#controller.interfaces.add(name, mode),
        detached: (name) => this.#controller.interfaces.remove(name),
      },
    }
  }

  #facts(): Omit<DaemonFacts, 'pending'> {
    const { file, loading, interfaces, ways } = this.#controller
    const { last, unmade } = loading
    return {
      pid: process.pid,
      startedMs: this.#startedMs,
      file,
      loadedMs: last.succeededAt,
      // The first line says how many faults there are; `xlb check` says which.
      refused: last.error === undefined ? null : { why: last.error.split('\n')[0] ?? '', sinceMs: last.at },
      unmade,
      missing: [...interfaces.missing].map(([name, missing]) => ({ name, ...missing })),
      changed: [...(this.#controller.changes()?.services.keys() ?? [])],
      sharedMacs: ways.sharedMacs,
    }
  }

  /** @throws Refusal, FaultyConfig: nothing runs then, and nothing was changed */
  async start(): Promise<void> {
    demandPrivilege()
    const { native, paths } = this.#options
    this.#release = claimInstance(native, paths)
    try {
      const { api } = this.#controller.loading.start()
      this.#tellPending()
      const socket = await makeServer(this.#serverOptions({ kind: 'socket' }))
      this.#servers.push(socket)
      await listenOnSocket(socket, paths.socket, api.group)
      for (const address of api.listen) {
        const server = await makeServer(this.#serverOptions({ kind: 'tcp', token: api.token }))
        this.#servers.push(server)
        await listenOnTcp(server, address)
      }
      this.#options.log.info({ socket: paths.socket, listen: api.listen }, 'ready')
    } catch (error) {
      await this.close()
      throw error
    }
    this.#lookedMs = performance.now()
    this.#timer = setInterval(() => this.#look('reconcile'), RECONCILE_EVERY_MS)
    this.#watch()
  }

  /** What fails is told, and tried again with the next change or at the next look. */
  #quietly(what: string, action: () => void): void {
    try {
      action()
    } catch (error) {
      this.#options.log.error({ err: error }, `${what}: ${error instanceof Error ? error.message : error}`)
    }
  }

  #look(what: string): void {
    this.#quietly(what, () => {
      this.#controller.reconcile()
      this.#lookedMs = performance.now()
    })
  }

  /** Has a look at everything succeeded within the last `withinMs`? One that waits for its interfaces has. */
  isWell(withinMs: number): boolean {
    return performance.now() - this.#lookedMs <= withinMs
  }

  /** What the kernel tells of is followed at once; the look at everything finds what it did not tell. */
  #watch(): void {
    const { native } = this.#options
    const refresh = (): void =>
      this.#quietly('neighbours', () => this.#controller.refreshPaths('the kernel told of a change'))
    this.#watcher = new Watcher(
      nodePorts((listener) => native.netlink.monitor(listener)),
      {
        onNeighbours: (changed) => {
          if (this.#controller.isConcernedBy(changed.map(({ address }) => address))) refresh()
        },
        onLinks: () => this.#look('interfaces'),
        onRoutes: refresh,
        onOverrun: () => this.#look('reconcile'),
      },
    )
  }

  /** What the configuration says that is not in force yet. */
  #tellPending(): Reload['pending'] {
    const controller = this.#controller
    const pending = controller.isAttached
      ? controller.session((session) => this.#loaded.pending(session))
      : this.#loaded.pending(undefined)
    for (const { what, mend } of pending) {
      const happening = {
        kind: 'configuration',
        subject: controller.file,
        to: 'pending',
        reason: `${what}; ${mend}`,
      } as const
      controller.events.tell(happening)
      logHappening(this.#options.log, happening)
    }
    return pending
  }

  /** @throws FaultyConfig, Refusal: nothing was changed then */
  #reload(): Reload {
    try {
      const changed = this.#controller.loading.reload()
      this.#options.onReload?.(true)
      return { ...changed, pending: this.#tellPending() }
    } catch (error) {
      this.#options.onReload?.(false)
      throw error
    }
  }

  /** SIGHUP. What is wrong with the file is told, and the old state runs on. @returns whether the file was taken */
  reload(): boolean {
    try {
      this.#reload()
      return true
    } catch (error) {
      if (!(error instanceof Refusal)) this.#options.log.error({ err: error }, 'reload')
      return false
    }
  }

  #serverOptions(access: ServerOptions['access']): ServerOptions {
    return {
      context: this.#context,
      events: this.#controller.events,
      own: ownVerbs({
        file: this.#controller.file,
        reload: () => this.#reload(),
        report: (service, backend, report) => this.#controller.standings.report(service, backend, report),
      }),
      metrics: async () => ({ contentType: CONTENT_TYPE, text: await this.#scraped() }),
      prepare: (verb, input) => this.#prepare(verb, input),
      because: (reason, action) => this.#controller.because(reason, action),
      onFault: (what, error) => this.#options.log.error({ err: error }, what),
      access,
    }
  }

  #scraped(): Promise<string> {
    const { error, succeededAt, tookMs } = this.#controller.loading.last
    const facts = {
      reload: { succeeded: error === undefined, lastSuccessMs: succeededAt, lastDurationMs: tookMs },
      more: [this.#processMetrics],
      foundOf: (service: string, backend: string) => this.#controller.standings.found(service, backend),
    }
    // Of an instance that is not attached yet there is this much to tell.
    if (!this.#controller.isAttached) return this.#exporter.export(undefined, facts)
    return this.#controller.session((session) => this.#exporter.export(session, facts))
  }

  /** Whoever names a backend that the kernel does not know yet waits for its answer here, and nobody else does. */
  async #prepare(verb: string, input: Record<string, unknown>): Promise<void> {
    if (verb === 'detach') this.#checkDetach(input)
    if (verb !== 'backend set' || input.force === true) return
    const service = parseService(String(input.service))
    const { address } = parseBackend(String(input.address), service)
    if (this.#controller.hasWay(formatService(service), address)) return
    const end = performance.now() + ANSWER_MS
    for (;;) {
      if (this.#controller.isReachable(address) || performance.now() > end) return
      await sleep(LOOK_EVERY_MS)
    }
  }

  #checkDetach({ all, interface: name }: Record<string, unknown>): void {
    const interfaces = this.#controller.interfaces.wanted
    const isLast = interfaces.length === 1 && interfaces[0]?.name === name
    if (all !== true && !isLast) return
    throw new Refusal(
      'a daemon runs, and keeps this instance attached',
      'stop it first: systemctl stop xlb; then: xlb detach --all',
    )
  }

  /** Leaves everything in force: maps, programs and links are the kernel's. */
  async close(): Promise<void> {
    clearInterval(this.#timer)
    this.#watcher?.close()
    await Promise.all(this.#servers.map((server) => server.close()))
    rmSync(this.#options.paths.socket, { force: true })
    this.#controller.close()
    this.#release()
  }
}
