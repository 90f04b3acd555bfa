// SPDX-License-Identifier: Apache-2.0
// The room of standings beside maps that are a plain state: each change passes by it as one of the kernel's maps does.
import type { Happening } from '../../src/core/backend-state.ts'
import { happenings } from '../../src/core/backend-state.ts'
import type { Backend, DesiredState, Service } from '../../src/core/desired.ts'
import { plan } from '../../src/core/plan.ts'
import type { ReturnPolicy } from '../../src/core/standing.ts'
import { ChangedState } from '../../src/core/state-map.ts'
import type { Pending, Report } from '../../src/core/told.ts'
import type { Entry } from '../../src/daemon/standing-store.ts'
import { Standings } from '../../src/daemon/standings.ts'
import { START } from '../core/story.ts'

export const NAME = 'tcp://192.0.2.10:80'
export const LINK = { kind: 'link', mac: 1n, interfaceSlot: 0 } as const
export const SILENT = { kind: 'unresolved', why: 'does not answer ARP' } as const

export const backend = (last: number, more: Partial<Backend> = {}): Backend => ({
  address: `192.0.2.${last}`,
  port: 80,
  weight: 10,
  admin: 'up',
  path: LINK,
  ...more,
})

export const service = (backends: readonly Backend[]): Service => ({
  protocol: 'tcp',
  vip: '192.0.2.10',
  port: 80,
  lastPort: 80,
  scheduler: 'wrr',
  forward: 'dsr',
  hash: 'source-port',
  ringSize: 0,
  seed: 1n,
  ops: false,
  backends,
})

export class Maps {
  nowMs = START
  /** By how much the clock was set. */
  setMs = 0
  state: DesiredState
  policy: ReturnPolicy
  commits = 0
  dueMs: number | undefined
  events: Happening[] = []
  room: Standings
  /** What the journal has. */
  journal: Entry[] = []
  /** The next commit fails. */
  failing = false

  constructor(policy: ReturnPolicy, backends: readonly Backend[]) {
    this.policy = policy
    this.state = new Map([[NAME, service(backends)]])
    this.room = this.#makeRoom()
  }

  #makeRoom(): Standings {
    return new Standings({
      nowMs: () => this.nowMs,
      steadyMs: () => this.nowMs - this.setMs,
      journal: {
        append: (entry) => this.journal.push(structuredClone(entry)),
        isLong: () => this.journal.length > 20,
        rewrite: (entries) => {
          this.journal = [...entries].map((entry) => structuredClone(entry))
        },
      },
      policyOf: () => this.policy,
      tell: (happening) => this.events.push(happening),
      due: (atMs) => {
        this.dueMs = atMs
      },
    })
  }

  of(last: number): Backend | undefined {
    return this.state.get(NAME)?.backends.find(({ address }) => address === `192.0.2.${last}`)
  }

  commit(want: DesiredState): void {
    if (this.failing) {
      this.failing = false
      this.room.overlay(this.state, want)
      throw new Error('no room')
    }
    const next = this.room.overlay(this.state, want)
    const changes = plan(this.state, next)
    if (changes.length === 0) return
    this.commits++
    this.state = new Map(next)
    this.room.committed(changes)
    const found = (name: string, address: string) => this.room.decisive(name, address)
    this.events.push(...happenings(changes, 'asked', { found }))
  }

  /** A verb's, or the kernel's. */
  change(last: number, more: Partial<Backend> | undefined): void {
    const before = this.state.get(NAME)
    const others = before?.backends.filter(({ address }) => address !== `192.0.2.${last}`) ?? []
    const now = this.of(last) ?? backend(last)
    this.commit(new Map([[NAME, service(more === undefined ? others : [...others, { ...now, ...more }])]]))
  }

  report(last: number, report: Report): Pending | undefined {
    const [of, each] = [this.state.get(NAME), this.of(last)]
    if (of === undefined || each === undefined) return undefined
    return this.room.report(of, each, report, () => this.look())
  }

  look(): void {
    this.commit(ChangedState.of(this.state, [[NAME, this.state.get(NAME)]]))
  }

  follow(names: readonly string[] = this.room.look()): void {
    this.room.follow(this.state, names, () => this.look())
  }

  /** Time passes, and the alarm rings whenever it is due. */
  wait(ms: number): void {
    const endMs = this.nowMs + ms
    while (this.dueMs !== undefined && this.dueMs <= endMs) {
      this.nowMs = Math.max(this.nowMs, this.dueMs)
      this.follow()
    }
    this.nowMs = endMs
  }

  /** The daemon is killed, and another one reads what it wrote. The maps stay. */
  restart(): void {
    const last = new Map(this.journal.map((entry) => [`${entry.service} ${entry.backend}`, entry]))
    this.dueMs = undefined
    this.room = this.#makeRoom()
    this.room.take(last.values())
    this.follow([NAME])
  }
}
