// SPDX-License-Identifier: Apache-2.0

/**
 * A change or a call that cannot be done, told to a person: what is wrong, and how to mend it. Whoever throws one has changed
 * nothing. `usage`: the words of the command are wrong (exit code 2); else the world is (exit code 1).
 */
export class Refusal extends Error {
  readonly mend: string
  readonly usage: boolean

  /** what: where and what, `tcp://192.0.2.10:70000: port 70000 exceeds 65535`; mend: `choose 1-65535`. */
  constructor(what: string, mend: string, options: { usage?: boolean } = {}) {
    super(what)
    this.name = 'Refusal'
    this.mend = mend
    this.usage = options.usage ?? false
  }
}

/** What is wrong with a state, and where. */
export interface StateFault {
  /** The service's name. */
  service: string
  /** The part of it, by the configuration file's keys and places in lists; empty: the whole. */
  keys: readonly (string | number)[]
  refusal: Refusal
}
