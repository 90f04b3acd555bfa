// SPDX-License-Identifier: Apache-2.0
// The name that people give a service, beside the one that its address is: for lists, logs and metrics.
import { formatService } from './address.ts'
import type { DesiredState, Service } from './desired.ts'
import { Refusal, type StateFault } from './refusal.ts'

const LABEL = /^[A-Za-z0-9][A-Za-z0-9._-]{0,30}$/

export function* labelFaults(service: Service): Generator<Refusal> {
  const { label } = service
  if (label === undefined || LABEL.test(label)) return
  yield new Refusal(
    `service ${formatService(service)}: '${label}' is no name`,
    'choose up to 31 letters, digits, dots, dashes and underscores, a letter or digit first',
    { usage: true },
  )
}

const taken = (service: string, label: string, other: string): Refusal =>
  new Refusal(`service ${service}: ${other} is called ${label} already`, 'choose another name for one of the two')

/** Services of one name. */
export function* sharedLabels(state: DesiredState): Generator<StateFault> {
  const first = new Map<string, string>()
  for (const [name, { label }] of state) {
    if (label === undefined) continue
    const other = first.get(label)
    if (other === undefined) first.set(label, name)
    else yield { service: name, keys: ['name'], refusal: taken(name, label, other) }
  }
}

/**
 * A service's label after a verb: undefined keeps it, false takes it away.
 * @throws Refusal where another service has it
 */
export const nextLabel = (
  state: DesiredState,
  service: string,
  before: string | undefined,
  asked: string | false | undefined,
): { label?: string } => {
  const label = asked === undefined ? before : asked === false ? undefined : asked
  if (label === undefined) return {}
  if (label !== before) {
    for (const [name, other] of state) if (name !== service && other.label === label) throw taken(service, label, name)
  }
  return { label }
}
