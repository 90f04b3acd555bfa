// SPDX-License-Identifier: Apache-2.0
// How many connections a backend takes: ipvsadm's --u-threshold and --l-threshold.
import { type BackendAddress, formatService, type ServiceAddress } from './address.ts'
import { Refusal } from './refusal.ts'

/**
 * With `upper` connections, active and inactive ones together, a backend is full, and gets no new flow until it has fewer than
 * `lower`. 0 for `lower`: three quarters of `upper`.
 */
export interface MaxConns {
  upper: number
  lower: number
}

export const MAX_CONNS_MAX = 2 ** 31 - 1

/** A full backend takes new flows again when it has fewer than this (net/netfilter/ipvs/ip_vs_conn.c, ip_vs_unbind_dest). */
export const reopensAt = ({ upper, lower }: MaxConns): number => (lower === 0 ? Math.ceil((upper * 3) / 4) : lower)

export const sameMaxConns = (a: MaxConns | undefined, b: MaxConns | undefined): boolean =>
  a?.upper === b?.upper && a?.lower === b?.lower

export const formatMaxConns = ({ upper, lower }: MaxConns): string => (lower === 0 ? `${upper}` : `${upper}:${lower}`)

/** UPPER or UPPER:LOWER; `none` takes a limit away. @param name for the words of a refusal: `--max-conns` */
export const parseMaxConns = (name: string, text: string): MaxConns | 'none' => {
  if (text === 'none') return 'none'
  const parts = /^([0-9]{1,10})(?::([0-9]{1,10}))?$/.exec(text)
  const upper = Number(parts?.[1])
  const lower = Number(parts?.[2] ?? 0)
  const mend = `give ${name} a number such as 1000, UPPER:LOWER such as 1000:800, or none`
  if (parts === null || upper < 1 || upper > MAX_CONNS_MAX) {
    throw new Refusal(`${name} '${text}': is no number of connections from 1 to ${MAX_CONNS_MAX}`, mend, {
      usage: true,
    })
  }
  if (parts[2] !== undefined && (lower < 1 || lower > upper)) {
    throw new Refusal(`${name} '${text}': LOWER ${lower} is not from 1 to UPPER ${upper}`, mend, { usage: true })
  }
  return { upper, lower }
}

/** Whatever forbids limits on backends of this service. */
export function* maxConnsFaults(
  service: ServiceAddress & {
    scheduler: string
    ops: boolean
    backends: readonly (BackendAddress & { maxConns?: MaxConns })[]
  },
  hashed: boolean,
): Generator<Refusal> {
  const limited = service.backends.find(({ maxConns }) => maxConns !== undefined)
  if (limited === undefined || !(hashed || service.ops)) return
  const why = hashed ? `${service.scheduler} goes by its ring alone` : 'one-packet scheduling records no flow'
  yield new Refusal(
    `backend ${limited.address} of ${formatService(service)}: ${why}, whatever connections there are, so that --max-conns cannot hold`,
    !hashed
      ? 'leave ops or the limit out'
      : 'choose --scheduler rr, wrr, lc, wlc, sed or nq, of a prefix also lblc or lblcr, or take the limit away: --max-conns none',
  )
}
