// SPDX-License-Identifier: Apache-2.0
// What is wrong with services and their backends, whoever wants them: a file or a verb.
import { formatService, type ServiceAddress, vipOf } from './address.ts'
import {
  BACKENDS_PER_SERVICE_MAX,
  choosesByDestination,
  type DesiredState,
  isByLoad,
  isHashed,
  isLeaving,
  RING_SIZE_MAX,
  type Service,
  WEIGHT_MAX,
} from './desired.ts'
import { labelFaults } from './label.ts'
import { isPrime } from './maglev.ts'
import { maxConnsFaults } from './max-conns.ts'
import { persistenceFaults } from './persistence.ts'
import { holds, isPrefix, prefixAround } from './prefix.ts'
import { Refusal, type StateFault } from './refusal.ts'
import { rateFaults } from './source-rate.ts'

function* ringSizeFaults(service: Service): Generator<Refusal> {
  if (service.ringSize === 0) return
  const where = `service ${formatService(service)}: ring size ${service.ringSize}`
  const backends = service.backends.filter((backend) => !isLeaving(backend)).length
  if (service.ringSize > RING_SIZE_MAX) {
    yield new Refusal(`${where} exceeds ${RING_SIZE_MAX}`, 'choose a smaller prime, such as 65537', { usage: true })
  } else if (!isPrime(service.ringSize)) {
    yield new Refusal(`${where} is not a prime`, 'choose a prime, such as 4093, 16381 or 65537', { usage: true })
  } else if (service.ringSize < backends) {
    yield new Refusal(
      `${where} is smaller than its ${backends} backends`,
      'choose a prime of at least 100 x backends, or 0 to let xlb choose',
    )
  }
}

function* backendFaults(service: Service): Generator<PartFault> {
  const of = formatService(service)
  if (service.backends.length > BACKENDS_PER_SERVICE_MAX) {
    yield {
      keys: ['backends'],
      refusal: new Refusal(
        `service ${of}: ${service.backends.length} backends exceed ${BACKENDS_PER_SERVICE_MAX}`,
        'spread them over several services',
      ),
    }
  }
  const seen = new Set<string>()
  let i = -1
  for (const { address, weight } of service.backends) {
    i++
    if (!Number.isInteger(weight) || weight < 0 || weight > WEIGHT_MAX) {
      const refusal = new Refusal(
        `backend ${address} of ${of}: weight ${weight} is not a whole number from 0 to ${WEIGHT_MAX}`,
        'choose 0 to 65535',
        { usage: true },
      )
      yield { keys: ['backends', i, 'weight'], refusal }
    }
    if (seen.has(address)) {
      const refusal = new Refusal(
        `backend ${address} of ${of}: is there twice`,
        'name it once, with the sum of the weights',
      )
      yield { keys: ['backends', i], refusal }
    }
    seen.add(address)
  }
}

function* opsFaults(service: Service): Generator<Refusal> {
  if (!service.ops) return
  if (isByLoad(service)) {
    yield new Refusal(
      `service ${formatService(service)}: one-packet scheduling records no flow, and ${service.scheduler} goes by the flows that are recorded: all would go to one backend`,
      'leave ops out, or choose --scheduler rr or wrr',
      { usage: true },
    )
  }
  if (service.protocol === 'udp') return
  yield new Refusal(
    `service ${formatService(service)}: one-packet scheduling would spread the segments of one TCP connection over backends`,
    'leave ops out, or choose a udp:// service',
    { usage: true },
  )
}

/** The service, of a prefix that its address is in. */
const example = (service: Service): string => formatService({ ...service, vip: prefixAround(service.vip) })

function* prefixFaults(service: Service): Generator<Refusal> {
  const where = `service ${formatService(service)}`
  const { scheduler, hash } = service
  const byDestination = choosesByDestination(service)
  if (byDestination && !isPrefix(service)) {
    yield new Refusal(
      `${where}: ${scheduler} chooses by the destination, and a single VIP is the only one that its packets have`,
      `choose rr, wrr, mh or sh; or make it a service of a prefix: ${example(service)}`,
      { usage: true },
    )
  }
  if (byDestination !== (hash === 'destination')) {
    yield new Refusal(
      byDestination
        ? `${where}: ${scheduler} hashes the destination, not ${hash}`
        : `${where}: ${scheduler} does not hash the destination`,
      byDestination
        ? 'leave hash out, or choose mh or sh'
        : 'choose source or source-port; or a prefix, and dh, lblc or lblcr',
      { usage: true },
    )
  }
}

/** What is wrong with a part of one service. */
type PartFault = Pick<StateFault, 'keys' | 'refusal'>

function* about(key: string, refusals: Iterable<Refusal>): Generator<PartFault> {
  for (const refusal of refusals) yield { keys: [key], refusal }
}

/** Whatever is wrong with one service by itself. */
export function* serviceFaults(service: Service): Generator<PartFault> {
  yield* about('name', labelFaults(service))
  yield* about('ops', opsFaults(service))
  yield* about('scheduler', prefixFaults(service))
  yield* about('persist', persistenceFaults(service))
  yield* about('ring-size', ringSizeFaults(service))
  yield* about('source-rate', rateFaults(service, service.sourceRate))
  yield* backendFaults(service)
  for (const refusal of maxConnsFaults(service, isHashed(service))) {
    const limited = service.backends.findIndex(({ maxConns }) => maxConns !== undefined)
    yield { keys: ['backends', limited, 'max-conns'], refusal }
  }
}

/** @throws Refusal, the first of serviceFaults */
export const checkService = (service: Service): void => {
  for (const { refusal } of serviceFaults(service)) throw refusal
}

const circle = (service: ServiceAddress, address: string): Refusal =>
  new Refusal(
    `backend ${address} of ${formatService(service)}: is a VIP itself: packets would go round in a circle`,
    'name the real server by its own address',
  )

const within = (service: ServiceAddress, address: string, prefix: string): Refusal =>
  new Refusal(
    `backend ${address} of ${formatService(service)}: is in ${prefix}, which is a service: packets for its own address would be balanced`,
    'name a real server outside of it, or make the prefix longer',
  )

/**
 * Backends that are VIPs too, of whichever service, or that a prefix holds.
 *
 * @param changed services that may have other backends than when nothing was wrong; all, where some service was not there then
 */
export function* circleFaults(state: DesiredState, changed: Iterable<string> = state.keys()): Generator<StateFault> {
  const vips = new Set([...state.keys()].map(vipOf))
  const prefixes = [...vips].filter((vip) => isPrefix({ vip }))
  for (const name of changed) {
    const service = state.get(name)
    if (service === undefined) continue
    let i = -1
    for (const { address } of service.backends) {
      i++
      const prefix = prefixes.length === 0 ? undefined : prefixes.find((each) => holds(each, address))
      if (!vips.has(address) && prefix === undefined) continue
      const refusal = prefix === undefined ? circle(service, address) : within(service, address, prefix)
      yield { service: name, keys: ['backends', i], refusal }
    }
  }
}

/** @throws Refusal, the first of circleFaults */
export const checkCircles = (state: DesiredState): void => {
  for (const { refusal } of circleFaults(state)) throw refusal
}

/** As checkCircles, for one backend that is new. */
export const checkCircle = (state: DesiredState, service: Service, address: string): void => {
  for (const name of state.keys()) {
    const vip = vipOf(name)
    if (vip === address) throw circle(service, address)
    if (isPrefix({ vip }) && holds(vip, address)) throw within(service, address, vip)
  }
}
