// SPDX-License-Identifier: Apache-2.0
// Checks in the configuration file.
import { z } from 'zod'
import { CONSECUTIVE_MAX, EXPIRES_MAX_SECONDS, INITIALS } from '../core/check.ts'
import { formatDuration } from '../core/duration.ts'
import { noted } from './notes.ts'

/** Of `check`: there is none. */
export const NO_CHECK = 'none'

/** Checks that xlb will make itself: until then whoever writes one is told so. */
export const PROBES: readonly string[] = [
  'http',
  'https',
  'tcp',
  'tls',
  'udp',
  'ping',
  'dns',
  'mysql',
  'postgresql',
  'redis',
  'smtp',
  'command',
]

/** A span of time as text, or whole seconds. */
export const duration = z.union([z.string(), z.int()]).transform(String)

const consecutive = (state: string, fallback: string) =>
  noted(z.int().min(1).max(CONSECUTIVE_MAX).optional(), {
    values: `1 to ${CONSECUTIVE_MAX}: so many reports of \`${state}\`, one after another, make it ${state}`,
    fallback,
  })

export const check = noted(
  z.strictObject({
    type: noted(z.enum(['report']), {
      values:
        "`report`: somebody else makes it, and [reports](daemon.md#checks) what was found. xlb's own are yet to come",
    }),
    expires: noted(duration.optional(), {
      values: `1s to ${formatDuration(EXPIRES_MAX_SECONDS)}: so long a report holds; a backend that is not reported again by then is down`,
      fallback: 'never',
    }),
    rise: consecutive('up', 'that of `defaults`, else 1'),
    fall: consecutive('down', 'likewise'),
    initially: noted(z.enum(INITIALS).default('up'), {
      values: '`up`, `down` (no new flows): what a backend counts as that was not reported yet, or is `unknown`',
      fallback: '`up`',
    }),
  }),
  { values: 'keys of [checks](#checks), such as `{ type: report, expires: 30s }`' },
)

/** What `defaults` say for checks. */
export const checkDefaults = {
  rise: consecutive('up', '1'),
  fall: consecutive('down', '1'),
}

/** What services say of one. */
export const checkKey = noted(z.string().optional(), {
  values: `the name of one of the [checks](#checks), by which its backends stand; or \`${NO_CHECK}\``,
  fallback: `\`${NO_CHECK}\`: what is reported holds until the next report`,
})

const checkName = z.string().regex(/^(?!none$)[A-Za-z0-9][A-Za-z0-9._-]{0,30}$/)

export const checks = z.record(checkName, check)
