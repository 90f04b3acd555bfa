// SPDX-License-Identifier: Apache-2.0
// A backend's state in one word of a fixed set, and the reason for it in another.
import type { Backend } from './desired.ts'

/** Those that take new flows come first; a removed backend's state is what becomes of its flows. */
export const BACKEND_STATES = [
  'up',
  'local',
  'reduced',
  'full',
  'weight-0',
  'drain',
  'held',
  'no-mac',
  'down',
  'maint',
  'leaving',
  'cut',
] as const
export type BackendState = (typeof BACKEND_STATES)[number]

/** Why a backend gets no new flows, or fewer. Of check, hold, agent and slow start the maps hold what comes of them: only a daemon tells them apart. */
export type BackendReason =
  | 'none'
  | 'connections'
  | 'weight'
  | 'admin'
  | 'neighbour'
  | 'check'
  | 'hold'
  | 'agent'
  | 'slow-start'
  | 'removed'

const REASONS: Readonly<Record<BackendState, BackendReason>> = {
  up: 'none',
  local: 'none',
  reduced: 'check',
  full: 'connections',
  'weight-0': 'weight',
  drain: 'admin',
  held: 'check',
  'no-mac': 'neighbour',
  down: 'check',
  maint: 'admin',
  leaving: 'removed',
  cut: 'removed',
}

export interface StateFacts extends Pick<Backend, 'admin' | 'weight'> {
  path: Backend['path']['kind']
  /** Of its health; true and 100 where nobody has found out anything. */
  alive: boolean
  percent: number
  /** It has as many connections as it may. */
  full: boolean
}

export const stateWord = ({ admin, weight, path, alive, percent, full }: StateFacts): BackendState => {
  if (admin === 'leaving' || admin === 'cut' || admin === 'maint') return admin
  if (path === 'unresolved') return 'no-mac'
  if (!alive) return 'down'
  if (admin === 'drain') return 'drain'
  if (weight === 0) return 'weight-0'
  if (percent === 0) return 'held'
  if (full) return 'full'
  if (percent < 100) return 'reduced'
  return path === 'local' ? 'local' : 'up'
}

export const reasonOfState = (state: BackendState): BackendReason => REASONS[state]
