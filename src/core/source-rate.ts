// SPDX-License-Identifier: Apache-2.0
// How many connections one source may open at a service.
import { formatService, type ServiceAddress } from './address.ts'
import { familyOf } from './ip.ts'
import { Refusal } from './refusal.ts'

export interface SourceRate {
  /** New connections in a second. */
  rate: number
  /** How many may come at once, after a time without any. */
  burst: number
  /** The leading bits of an address that make it a source. */
  bits: number
}

export interface SourceRateOptions {
  /** 0: no bound. */
  sourceRate?: number
  sourceBurst?: number
  sourcePrefix?: number
}

export const RATE_MAX = 1_000_000
/** The most of any family. */
export const SOURCE_BITS_MAX = 128

/** By the VIP's family: of IPv6 the network that a site gives to one link (RFC 4291 section 2.5.4). */
export const defaultSourceBits = ({ vip }: ServiceAddress): number => (familyOf(vip) === 'ipv4' ? 32 : 64)

const sourceBitsMax = ({ vip }: ServiceAddress): number => (familyOf(vip) === 'ipv4' ? 32 : SOURCE_BITS_MAX)

/** What is not named stays; the burst is the rate unless it was named. @throws Refusal where there is no rate to change */
export const changedRate = (
  service: ServiceAddress,
  have: SourceRate | undefined,
  { sourceRate, sourceBurst, sourcePrefix }: SourceRateOptions,
): SourceRate | undefined => {
  const rate = sourceRate ?? have?.rate ?? 0
  if (rate === 0) {
    if (sourceBurst === undefined && sourcePrefix === undefined) return undefined
    throw new Refusal(
      `service ${formatService(service)}: --source-burst and --source-prefix say more about a --source-rate, and there is none`,
      'name the rate too, such as --source-rate 100',
      { usage: true },
    )
  }
  const burst = have === undefined || have.burst === have.rate ? rate : have.burst
  return { rate, burst: sourceBurst ?? burst, bits: sourcePrefix ?? have?.bits ?? defaultSourceBits(service) }
}

export function* rateFaults(service: ServiceAddress, sourceRate: SourceRate | undefined): Generator<Refusal> {
  if (sourceRate === undefined) return
  const check = (name: string, value: number, most: number): Refusal[] =>
    Number.isInteger(value) && value >= 1 && value <= most
      ? []
      : [
          new Refusal(
            `service ${formatService(service)}: ${name} ${value} is not a whole number from 1 to ${most}`,
            `choose 1 to ${most}`,
            { usage: true },
          ),
        ]
  yield* check('source rate', sourceRate.rate, RATE_MAX)
  yield* check('source burst', sourceRate.burst, RATE_MAX)
  yield* check('source prefix', sourceRate.bits, sourceBitsMax(service))
}

export const sameRate = (a: SourceRate | undefined, b: SourceRate | undefined): boolean =>
  a === b || (a?.rate === b?.rate && a?.burst === b?.burst && a?.bits === b?.bits)
