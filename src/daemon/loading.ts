// SPDX-License-Identifier: Apache-2.0
// The configuration on its way into force: when the daemon starts, when somebody asks for a reload, and when what is pinned is not what it
// was loaded onto.
import { existsSync } from 'node:fs'
import { readConfig } from '../config/read.ts'
import { ReadBefore } from '../config/read-before.ts'
import type { Config } from '../config/reading.ts'
import type { Happening } from '../core/backend-state.ts'
import type { DaemonFacts } from '../core/status.ts'
import type { Session } from '../shell/session.ts'
import { applyConfig, type Wanted } from './apply-config.ts'
import { type KeptInterfaces, mergeInterfaces } from './kept-interfaces.ts'
import type { KeptStandings } from './kept-standings.ts'
import { changedWords, type Reloaded, type Reloading, reloadedSince } from './reloading.ts'
import type { Remembered } from './remembered.ts'

export interface LoadingPorts {
  file: string
  environment: NodeJS.ProcessEnv
  /** The folder of the instance's pins. */
  pins: string
  /** KernelPlane.identity of what is pinned; undefined: nothing is. */
  maps: () => string | undefined
  session: <T>(action: (session: Session) => T) => T
  interfaces: KeptInterfaces
  remembered: Remembered
  standings: KeptStandings
  because: <T>(reason: string, action: () => T) => T
  tell: (happening: Happening) => void
  /** Hears of each configuration that is in force from now on. */
  configured: (config: Config) => void
  nowMs: () => number
}

export class Loading {
  readonly #ports: LoadingPorts
  readonly #before = new ReadBefore()
  last: Reloaded = { at: 0, succeededAt: 0, tookMs: 0 }
  /** DaemonFacts.unmade */
  unmade: DaemonFacts['unmade'] = null
  /** Where no interface is attached: what shall be loaded when one is. */
  #waiting: Config | undefined
  #hasLoaded = false

  constructor(ports: LoadingPorts) {
    this.#ports = ports
  }

  #read(aside = ''): Config {
    const { file, environment } = this.#ports
    return readConfig(file, environment, { before: this.#before, aside })
  }

  get #isPinned(): boolean {
    return existsSync(this.#ports.pins)
  }

  /**
   * Attaches or adopts, and makes of what is there what the file says; what was changed since the file was last loaded stays.
   * @returns what the file says
   * @throws FaultyConfig, Refusal: nothing was changed then
   */
  start(): Config {
    const { interfaces, remembered, standings, configured, because } = this.#ports
    const config = this.#read()
    configured(config)
    remembered.start()
    standings.start(remembered.loaded?.policies ?? new Map())
    interfaces.capacity = config.capacity
    interfaces.wanted = remembered.interfaces(config)
    const wasPinned = this.#isPinned
    because(wasPinned ? 'adopted what was pinned' : 'the daemon starts', () => {
      interfaces.attachMissing()
      if (!this.#isPinned) {
        this.#waiting = config
        return
      }
      try {
        this.#loadFirst(config)
      } catch (error) {
        if (!wasPinned) for (const { name } of interfaces.wanted) interfaces.detach(name, 'the start was refused')
        throw error
      }
    })
    return config
  }

  /**
   * Reads the file again and applies what it says otherwise than before.
   * @throws FaultyConfig, Refusal: nothing was changed then
   */
  reload(): Reloading {
    const { file, because, configured, tell, nowMs } = this.#ports
    const startedMs = nowMs()
    const why = `reload of ${file}`
    try {
      const config = this.#read('; nothing was changed')
      const changed = because(why, () => this.#apply(config, why))
      this.#ended(startedMs)
      configured(config)
      return changed
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error)
      this.#ended(startedMs, reason)
      tell({ kind: 'configuration', subject: file, to: 'refused', reason })
      throw error
    }
  }

  #apply(config: Config, why: string): Reloading {
    const { interfaces, remembered } = this.#ports
    const before = interfaces.wanted
    const after = mergeInterfaces(remembered.loaded?.interfaces ?? [], config.interfaces, before)
    interfaces.wanted = after
    interfaces.capacity = config.capacity
    try {
      interfaces.attachMissing()
      const changed = this.#isPinned ? this.#load(config) : this.#wait(config)
      for (const { name } of without(before, after)) interfaces.detach(name, why)
      return changed
    } catch (error) {
      for (const { name } of without(after, before)) interfaces.detach(name, 'the reload was refused')
      interfaces.wanted = before
      throw error
    }
  }

  #wait(config: Config): Reloading {
    this.#waiting = config
    return { services: [], globals: false, policies: [] }
  }

  /** Where something is pinned, and the configuration was not loaded onto it: it is now. To be called again and again. */
  attend(): void {
    const { maps, remembered } = this.#ports
    if (this.#waiting !== undefined) this.#loadFirst(this.#waiting)
    else if (maps() !== remembered.maps) this.#makeAgain()
  }

  /** The pins were taken away, and an interface is attached anew: what was last loaded counts, whatever the file says by now. */
  #makeAgain(): void {
    const { remembered, nowMs } = this.#ports
    const { loaded } = remembered
    if (loaded === undefined) return
    try {
      this.#load({ ...loaded, desired: () => loaded.services })
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error)
      this.unmade = { why, sinceMs: this.unmade?.sinceMs ?? nowMs() }
      throw error
    }
  }

  /**
   * Makes what is pinned what the configuration says, and what was changed since the one before was loaded. Maps that this one was loaded onto
   * know these changes; others do not: of a host that came up, or that somebody else has attached, or that were attached just now
   * because the pins had been taken away.
   */
  #load(config: Wanted): Reloading {
    const { file, remembered, standings, session, tell } = this.#ports
    const base = remembered.loaded
    let maps = ''
    const { applied, changed: policies } = standings.load(config.policies, () =>
      session((opened) => {
        maps = this.#ports.maps() ?? ''
        return applyConfig(opened, config, base, maps === remembered.maps ? undefined : remembered.since)
      }),
    )
    this.#waiting = undefined
    this.#hasLoaded = true
    this.unmade = null
    remembered.load({ wish: applied.wish, maps }, applied.changed)
    const changed: Reloading = { ...applied.changed, policies }
    tell({ kind: 'configuration', subject: file, to: 'loaded', reason: changedWords(changed) })
    return changed
  }

  /** #load, of what was read when the daemon came up. */
  #loadFirst(config: Config): void {
    const startedMs = this.#ports.nowMs()
    this.#load(config)
    this.#ended(startedMs)
  }

  #ended(startedMs: number, error?: string): void {
    this.last = reloadedSince(this.last, startedMs, this.#ports.nowMs(), error)
  }

  /** Was something loaded since this was last asked? Ways to backends that it named have yet to be found. */
  takeLoaded(): boolean {
    const hasLoaded = this.#hasLoaded
    this.#hasLoaded = false
    return hasLoaded
  }
}

const without = (interfaces: Config['interfaces'], others: Config['interfaces']): Config['interfaces'] =>
  interfaces.filter(({ name }) => !others.some((other) => other.name === name))
