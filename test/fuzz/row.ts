// SPDX-License-Identifier: Apache-2.0
// A row of frames, as an input has them.

/** Steps of the clock: none, and one, four and forty units of age (16 jiffies each). */
export const STEP = { NONE: 0, AGE: 0x21, AGES: 0x24, MANY: 0x3f } as const

export type Row = readonly (readonly [step: number, frame: Buffer])[]
