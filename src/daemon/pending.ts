// SPDX-License-Identifier: Apache-2.0
// What a configuration says and a reload does not make so: sizes and modes, which an attach fixes, and the API, which is read at the start.
import type { Config } from '../config/reading.ts'
import { capacityKey } from '../core/capacity.ts'
import { type Capacity, capacityOf, elementsFor, MAPPED } from '../dataplane/memory.ts'
import { DEFAULT_CAPACITY } from '../shell/load.ts'

export interface Pending {
  what: string
  mend: string
}

type Said = Pick<Config, 'api' | 'capacity' | 'interfaces'>

export interface InForce {
  api: Config['api']
  /** Undefined: no table is made yet. */
  capacity: Required<Capacity> | undefined
  /** Those that are attached. */
  interfaces: readonly { name: string; mode: string }[]
}

const notYet = (what: string, when: string): string => `not in force yet, but ${when}: ${what}`

const API_KEYS = ['group', 'listen', 'token'] as const

const apiPending = (file: string, said: Config['api'], have: Config['api']): Pending[] => {
  const keys = API_KEYS.filter((key) => JSON.stringify(said[key]) !== JSON.stringify(have[key]))
  if (keys.length === 0) return []
  const what = notYet(`${keys.map((key) => `api.${key}`).join(', ')} of ${file}`, 'once the daemon is started again')
  return [{ what, mend: 'systemctl restart xlb, which no packet notices' }]
}

const anew = (attachment: string): string =>
  `when flows may end: systemctl stop xlb; xlb detach ${attachment}; systemctl start xlb. What verbs changed is remembered`

/** What the first attach would make of these sizes. */
const madeOf = (capacity: Config['capacity']): Required<Capacity> => {
  const elements = elementsFor({ ...DEFAULT_CAPACITY, ...capacity }, 1)
  return capacityOf({ size: (name) => elements[name] * MAPPED[name] })
}

const grouped = (count: number): string => count.toLocaleString('en-US')

const sizesPending = (
  file: string,
  said: Config['capacity'],
  names: ReadonlySet<keyof Capacity>,
  have: Required<Capacity>,
): Pending[] => {
  const made = madeOf(said)
  const sizes = [...names]
    .filter((name) => made[name] !== have[name])
    .map((name) => `${capacityKey(name)} ${grouped(made[name])} (now ${grouped(have[name])})`)
  if (sizes.length === 0) return []
  return [{ what: notYet(`limits of ${file}: ${sizes.join(', ')}`, 'once xlb is attached anew'), mend: anew('--all') }]
}

const modesPending = (file: string, said: Config['interfaces'], have: InForce['interfaces']): Pending[] =>
  said.flatMap(({ name, mode }) => {
    const now = have.find((each) => each.name === name)?.mode
    if (mode === 'auto' || now === undefined || now === mode) return []
    const what = notYet(`${name} in ${mode} mode, as ${file} says (now ${now})`, 'once it is attached anew')
    return [{ what, mend: anew(name) }]
  })

/**
 * @param file its name, for words
 * @param names sizes that the file has, or had since the daemon's start
 */
export const pendingOf = (
  file: string,
  said: Said,
  names: ReadonlySet<keyof Capacity>,
  inForce: InForce,
): Pending[] => [
  ...apiPending(file, said.api, inForce.api),
  ...(inForce.capacity === undefined ? [] : sizesPending(file, said.capacity, names, inForce.capacity)),
  ...modesPending(file, said.interfaces, inForce.interfaces),
]
