// SPDX-License-Identifier: Apache-2.0
// The interfaces that shall be attached while a daemon runs: whatever takes one away, it is attached again as soon as it is there.
import { existsSync } from 'node:fs'
import type { Config } from '../config/reading.ts'
import type { Happening } from '../core/backend-state.ts'
import type { AttachMode } from '../core/preflight-facts.ts'
import { Refusal } from '../core/refusal.ts'
import type { Native } from '../dataplane/native.ts'
import { type Attached, attach, detach } from '../shell/attach.ts'
import { type InstancePaths, linkPin } from '../shell/instance.ts'
import type { AttachedInterface } from '../shell/interfaces.ts'

/** What it asks of the instance's owner. */
export interface Owner {
  native: Native
  paths: InstancePaths
  nowMs: () => number
  tell: (happening: Happening) => void
  /** Those of the instance, attached or not. */
  attached: () => AttachedInterface[]
  /** Records of interfaces were written beside a session. */
  written: () => void
  /** The instance is about to end, or has ended. */
  ended: () => void
}

export class KeptInterfaces {
  /** Those that shall be attached, and how. */
  readonly #wanted = new Map<string, AttachMode>()
  /** Of those that are not, why, and since when. */
  readonly missing = new Map<string, { why: string; sinceMs: number }>()
  /** Sizes of tables, for whoever is attached first. */
  capacity: Config['capacity'] = {}
  readonly #owner: Owner

  constructor(owner: Owner) {
    this.#owner = owner
  }

  /** Those that shall be attached. */
  get wanted(): Config['interfaces'] {
    return [...this.#wanted].map(([name, mode]) => ({ name, mode }))
  }

  set wanted(interfaces: Config['interfaces']) {
    this.#wanted.clear()
    for (const { name, mode } of interfaces) this.#wanted.set(name, mode)
    for (const name of this.missing.keys()) if (!this.#wanted.has(name)) this.missing.delete(name)
  }

  /** From now on it shall be attached; whoever says so has attached it. */
  add(name: string, mode: AttachMode): void {
    this.#wanted.set(name, mode)
    this.missing.delete(name)
    this.#owner.written()
  }

  remove(name: string): void {
    this.#wanted.delete(name)
    this.missing.delete(name)
    this.#owner.written()
  }

  /** Attaches whatever shall be attached and is not. */
  attachMissing(): void {
    const { paths, native, tell } = this.#owner
    if (!existsSync(paths.pins)) this.#owner.ended()
    const present = new Map(
      existsSync(paths.pins) ? this.#owner.attached().map((each) => [each.name, each] as const) : [],
    )
    for (const [name, mode] of this.#wanted) {
      const before = present.get(name)
      if (before?.attached === true) {
        if (this.missing.delete(name)) tell({ kind: 'interface', subject: name, to: 'attached', reason: 'it is there' })
        continue
      }
      const exists = native.netlink.interfaces().some((each) => each.name === name)
      if (exists) this.#attach(name, mode, before)
      else this.#isMissing(name, before?.fault ?? `${name} does not exist`)
    }
  }

  #isMissing(name: string, why: string): void {
    const before = this.missing.get(name)
    if (before?.why === why) return
    this.missing.set(name, { why, sinceMs: before?.sinceMs ?? this.#owner.nowMs() })
    this.#owner.tell({ kind: 'interface', subject: name, to: 'missing', reason: why })
  }

  #attach(name: string, mode: AttachMode, before: AttachedInterface | undefined): void {
    const { native, paths, tell, written } = this.#owner
    const capacity = existsSync(paths.pins) ? {} : this.capacity
    try {
      const attached = attach(native, paths, { interfaceName: name, mode, capacity })
      written()
      this.missing.delete(name)
      for (const { what, why } of attached.warnings) {
        tell({ kind: 'interface', subject: name, to: 'warning', reason: `${what}: ${why}` })
      }
      const fault = before?.fault
      const reason = fault === undefined ? attached.reason : `${fault}; ${attached.reason}`
      const to = `${fault === undefined ? 'attached' : 'attached again'} (${attached.mode})`
      tell({ kind: 'interface', subject: name, to, reason })
      if (before?.mode === 'native' && attached.mode === 'generic') this.#isSlower(attached)
    } catch (error) {
      if (!(error instanceof Error)) throw error
      this.#isMissing(name, error.message)
    }
  }

  /** It came back before whatever native mode needs. To change its mode takes its link off for a moment: that is left to people. */
  #isSlower({ interfaceName: name, ifindex, reason: why }: Attached): void {
    const link = linkPin(this.#owner.paths.pins, ifindex)
    const reason = `it was native before, and is generic now, which is slower: ${why}; when that is mended: bpftool link detach pinned ${link}, upon which it is attached anew`
    this.#owner.tell({ kind: 'interface', subject: name, to: 'warning', reason })
  }

  /** Takes the program off one that shall not be attached any more; where backends are reached through it, it stays. */
  detach(name: string, reason: string): void {
    const { native, paths, tell, attached, written, ended } = this.#owner
    if (!existsSync(paths.pins)) return
    const present = attached().map((each) => each.name)
    if (!present.includes(name)) return
    try {
      if (present.length === 1) ended()
      detach(native, paths, name)
      written()
      tell({ kind: 'interface', subject: name, to: 'detached', reason })
    } catch (error) {
      if (!(error instanceof Refusal)) throw error
      this.#wanted.set(name, 'auto')
      tell({ kind: 'interface', subject: name, to: 'kept', reason: error.message })
    }
  }
}

/** What the file says otherwise than before, applied to what shall be attached now. */
export const mergeInterfaces = (
  base: Config['interfaces'],
  file: Config['interfaces'],
  have: Config['interfaces'],
): Config['interfaces'] => {
  const was = new Set(base.map(({ name }) => name))
  const is = new Map(file.map((each) => [each.name, each]))
  const kept = have.filter(({ name }) => is.has(name) || !was.has(name)).map((each) => is.get(each.name) ?? each)
  const known = new Set(kept.map(({ name }) => name))
  return [...kept, ...file.filter(({ name }) => !known.has(name) && !was.has(name))]
}
