// SPDX-License-Identifier: Apache-2.0
// A folder for tests that write one file thousands of times: on a disk that takes as long as all that is done with it.
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestFn } from 'ava'

const MEMORY = '/dev/shm'

/** In memory where there is such a file system; gone with the tests. */
export const memoryFolder = (test: TestFn, prefix: string): string => {
  const folder = mkdtempSync(join(existsSync(MEMORY) ? MEMORY : tmpdir(), prefix))
  test.after.always(() => rmSync(folder, { recursive: true, force: true }))
  return folder
}
