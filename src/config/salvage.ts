// SPDX-License-Identifier: Apache-2.0
// What can be read of a file with faults, so that what else is wrong is found at once with them.
import { z } from 'zod'
import { innerSchema } from './notes.ts'

const isMapping = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

/** Values of which something was left out: what is said of them as a whole may be wrong. */
export class Salvage {
  readonly #damaged = new WeakSet<object>()

  /** Has a key of its own, or an entry of a list, been left out? What lies deeper does not count. */
  isDamaged(value: object): boolean {
    return this.#damaged.has(value)
  }

  /** Undefined where nothing can be made of it. In a list, or by their names in a mapping, such entries stand as undefined: places are kept. */
  read(schema: z.core.$ZodType, value: unknown): unknown {
    const whole = z.safeParse(schema, value)
    if (whole.success) return whole.data
    const inner = innerSchema(schema)
    if (inner instanceof z.ZodArray && Array.isArray(value)) {
      return value.map((each) => this.read(inner._zod.def.element, each))
    }
    if (inner instanceof z.ZodRecord && isMapping(value)) {
      const { valueType } = inner._zod.def
      return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, this.read(valueType, each)]))
    }
    return inner instanceof z.ZodObject && isMapping(value) ? this.#readObject(inner, value) : undefined
  }

  #readObject(schema: z.ZodObject, value: Record<string, unknown>): unknown {
    const { shape } = schema._zod.def
    const result: Record<string, unknown> = {}
    for (const [key, of] of Object.entries(shape)) {
      const isThere = Object.hasOwn(value, key)
      const read = isThere ? this.read(of, value[key]) : undefined
      if (read !== undefined) {
        result[key] = read
        continue
      }
      const without = z.safeParse(of, undefined)
      if (!without.success) return undefined
      if (without.data !== undefined) result[key] = without.data
      if (isThere) this.#damaged.add(result)
    }
    if (Object.keys(value).some((key) => !Object.hasOwn(shape, key))) this.#damaged.add(result)
    return result
  }
}
