// SPDX-License-Identifier: Apache-2.0
// A metric, and the ways to define one.
import type { PlaneSnapshot, Snapshot } from './snapshot.ts'

export interface Row {
  labels: Readonly<Record<string, string>>
  value: number
}

export interface Family {
  name: string
  type: 'counter' | 'gauge'
  labels: readonly string[]
  help: string
  rows: (snapshot: Snapshot) => Iterable<Row>
}

export type Definition = Pick<Family, 'name' | 'type' | 'help'>

/** One value; undefined: none. */
export const single = (definition: Definition, value: (snapshot: Snapshot) => number | undefined): Family => ({
  ...definition,
  labels: [],
  *rows(snapshot) {
    const one = value(snapshot)
    if (one !== undefined) yield { labels: {}, value: one }
  },
})

/** Of a director that is attached. */
export const ofPlane = (
  labels: readonly string[],
  definition: Definition,
  rows: (plane: PlaneSnapshot, snapshot: Snapshot) => Iterable<Row>,
): Family => ({
  ...definition,
  labels,
  rows: (snapshot) => (snapshot.plane === undefined ? [] : rows(snapshot.plane, snapshot)),
})
