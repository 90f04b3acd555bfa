// SPDX-License-Identifier: Apache-2.0
// What every refused command owes: its exit code, words on stderr alone (as JSON where that was asked for), and no change.
import { fileURLToPath } from 'node:url'
import type { ExecutionContext } from 'ava'
import { capacityOf } from '../../src/dataplane/memory.ts'
import { loadNative } from '../../src/dataplane/native.ts'
import { readLive } from '../../src/dataplane/reader.ts'
import { pathsOf } from '../../src/shell/instance.ts'
import { attachedInterfaces } from '../../src/shell/interfaces.ts'
import { openPlaneAt } from '../../src/shell/lock.ts'
import type { Lab } from '../lab/lab.ts'
import type { Result } from '../lab/process.ts'

const MANY = fileURLToPath(new URL('./many.cjs', import.meta.url))

export interface Wrong {
  /** What is wrong, in words for the test's title. */
  what: string
  argv: readonly string[]
  /** 2: the words of the command are wrong; 1: the world is. */
  code: 1 | 2
  /** What stderr must say: what, where, and how to mend it. */
  says: readonly (string | RegExp)[]
  input?: string
}

const saysAll = (t: ExecutionContext, text: string, wrong: Wrong): void => {
  for (const words of wrong.says) {
    t.true(typeof words === 'string' ? text.includes(words) : words.test(text), `'${words}' is not in: ${text}`)
  }
}

/** All that `xlb save` writes of, read without starting it; as text, to compare. */
export const stateOf = (lab: Lab): string => {
  const native = loadNative()
  const paths = pathsOf(lab.instance())
  const plane = openPlaneAt(native, paths.pins)
  try {
    const interfaces = attachedInterfaces(native, paths.pins, plane)
    const state = [interfaces, capacityOf(plane), [...readLive(plane).desired]]
    return JSON.stringify(state, (_, value) => (typeof value === 'bigint' ? `${value}` : value), 1)
  } finally {
    plane.close()
  }
}

/** What each of these commands says with --json: of those without input, all in one process. The state must stay as it is. */
export const withJson = async (t: Pick<ExecutionContext, 'is'>, lab: Lab, wrongs: readonly Wrong[]) => {
  const before = stateOf(lab)
  const asked = wrongs.filter(({ input }) => input === undefined)
  const commands = asked.map(({ argv }) => ['--instance', lab.instance(), '--json', ...argv])
  const { stdout, stderr } = await lab.run('director', [process.execPath, MANY], {
    input: JSON.stringify(commands),
    timeoutMs: 100_000,
  })
  t.is(stderr, '')
  const results = JSON.parse(stdout) as Result[]
  t.is(stateOf(lab), before, 'nothing has changed')
  return new Map(asked.map((wrong, i) => [wrong, results[i]]))
}

/**
 * Gives the wrong command. The state of the director's instance must stay as it is.
 *
 * @param known what it says with --json; left out: it is given that way too
 */
export const refuses = async (t: ExecutionContext, lab: Lab, wrong: Wrong, known?: Result): Promise<void> => {
  const before = stateOf(lab)
  const options = wrong.input === undefined ? {} : { input: wrong.input }
  const [plain, json] = await Promise.all([
    lab.xlb(wrong.argv, options),
    known ?? lab.xlb(['--json', ...wrong.argv], options),
  ])
  t.is(plain.code, wrong.code, plain.stderr || plain.stdout)
  t.is(plain.stdout, '')
  t.true(plain.stderr.startsWith('xlb: '), plain.stderr)
  t.notRegex(plain.stderr, /^ {4}at |node:internal/m, 'no stack trace')
  t.true(plain.stderr.trim().split('\n').length >= 2, `how to mend it is missing: ${plain.stderr}`)
  saysAll(t, plain.stderr, wrong)

  t.is(json.code, wrong.code)
  t.is(json.stdout, '')
  const { error } = JSON.parse(json.stderr) as { error: { what?: string; mend?: string } }
  t.true((error.what ?? '').length > 0)
  t.true((error.mend ?? '').length > 0, `how to mend it is missing: ${json.stderr}`)
  saysAll(t, `${error.what}\n${error.mend}`, wrong)

  t.is(stateOf(lab), before, 'nothing has changed')
}
