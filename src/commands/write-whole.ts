// SPDX-License-Identifier: Apache-2.0
import { renameSync, rmSync, writeFileSync } from 'node:fs'
import { Refusal } from '../core/refusal.ts'

/** Written beside and renamed: a reader, or a crash, sees the old file or the new one. */
export const writeWhole = (file: string, text: string): void => {
  const beside = `${file}.${process.pid}.tmp`
  try {
    writeFileSync(beside, text, { mode: 0o600 })
    renameSync(beside, file)
  } catch (error) {
    rmSync(beside, { force: true })
    const code = error instanceof Error && 'code' in error ? error.code : error
    throw new Refusal(
      `${file}: cannot be written: ${code}`,
      'name a file in a folder that exists and may be written to',
    )
  }
}
