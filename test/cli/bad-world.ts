// SPDX-License-Identifier: Apache-2.0
// Right words that the world does not fit, given to the instance of bad-input.test.ts: each is refused with exit code 1.
import { WEB } from './bad-words.ts'
import type { Wrong } from './wrong.ts'

/** A service whose flows nobody records. */
export const HASHED_UDP = 'udp://10.89.0.100:5353'
const UNKNOWN = 'tcp://10.89.0.100:8080'

export const BAD_WORLD: readonly Wrong[] = [
  {
    what: 'a service that is there',
    argv: ['service', 'add', WEB],
    code: 1,
    says: [`service ${WEB} exists already`, `xlb service set ${WEB}`],
  },
  {
    what: 'a range that overlaps another',
    argv: ['service', 'add', 'tcp://10.89.0.100:8050-8150'],
    code: 1,
    says: [
      'service tcp://10.89.0.100:8050-8150: overlaps tcp://10.89.0.100:8000-8099: both have ports 8050-8099',
      'give each port to one range',
    ],
  },
  {
    what: 'clients of a service without persistence',
    argv: ['connections', WEB, '--persistence'],
    code: 1,
    says: [`service ${WEB} has no persistence`, `xlb service set ${WEB} --persist 300s`],
  },
  {
    what: 'a report that no daemon is there to take',
    argv: ['backend', 'report', WEB, '10.89.0.21', '--check', 'down'],
    code: 1,
    says: ['no daemon of this instance runs', 'start it: systemctl start xlb'],
  },
  {
    what: 'a filter of an unknown service',
    argv: ['filter', 'add', UNKNOWN, 'deny', '192.0.2.0/24'],
    code: 1,
    says: [`${UNKNOWN} does not exist`],
  },
  {
    what: 'rm of a prefix that is not there',
    argv: ['filter', 'rm', '192.0.2.0/24'],
    code: 1,
    says: ['prefix 192.0.2.0/24: is not in the list', 'xlb filter list'],
  },
  {
    what: 'a list with wrong lines',
    argv: ['filter', 'load', '-'],
    input: 'deny 192.0.2.0/24\ndeny 192.0.2.1/24\nallow\n',
    code: 1,
    says: ['nothing was changed', 'line 2: ', 'write 192.0.2.0/24', 'line 3: '],
  },
  {
    what: 'a list that contradicts itself',
    argv: ['filter', 'load', WEB, '-'],
    input: 'deny 192.0.2.0/24\nallow 192.0.2.0/24\n',
    code: 1,
    says: ['line 2: says of a prefix the opposite of line 1'],
  },
  {
    what: 'a list that is not there',
    argv: ['filter', 'load', '/nowhere/list'],
    code: 1,
    says: ['/nowhere/list: cannot be read', 'deny 198.51.100.0/24'],
  },
  {
    what: 'more prefixes than there is room for',
    argv: ['filter', 'load', '-'],
    input: Array.from({ length: 131_073 }, (_, i) => `deny 10.${i >> 16}.${(i >> 8) & 255}.${i & 255}`).join('\n'),
    code: 1,
    says: [
      'the table of prefixes is full: 131073 are wanted, and it holds 131072',
      'nothing was changed',
      '--prefixes',
    ],
  },
  {
    what: 'set of an unknown service',
    argv: ['service', 'set', UNKNOWN],
    code: 1,
    says: [`${UNKNOWN} does not exist`, 'xlb list'],
  },
  { what: 'rm of an unknown service', argv: ['service', 'rm', UNKNOWN], code: 1, says: [`${UNKNOWN} does not exist`] },
  {
    what: 'a backend of an unknown service',
    argv: ['backend', 'set', UNKNOWN, '10.89.0.21'],
    code: 1,
    says: [`${UNKNOWN} does not exist`],
  },
  {
    what: 'drain of an unknown backend',
    argv: ['backend', 'drain', WEB, '10.89.0.22'],
    code: 1,
    says: ['backend 10.89.0.22', 'does not exist', '10.89.0.21'],
  },
  {
    what: 'maint of an unknown backend',
    argv: ['backend', 'maint', WEB, '10.89.0.22'],
    code: 1,
    says: ['backend 10.89.0.22', 'does not exist', '10.89.0.21'],
  },
  {
    what: 'rm of an unknown backend',
    argv: ['backend', 'rm', WEB, '10.89.0.22'],
    code: 1,
    says: ['backend 10.89.0.22', 'does not exist'],
  },
  {
    what: 'rm --flows cut where flows are not known',
    argv: ['backend', 'rm', HASHED_UDP, '10.89.0.21', '--flows', 'cut'],
    code: 1,
    says: ['backend 10.89.0.21', 'a hashed UDP service does not know its flows', '--flows move, or --flows keep'],
  },
  {
    what: 'list of an unknown service',
    argv: ['list', UNKNOWN],
    code: 1,
    says: [`${UNKNOWN} does not exist`, 'xlb list'],
  },
  {
    what: 'connections of an unknown service',
    argv: ['connections', UNKNOWN],
    code: 1,
    says: [`${UNKNOWN} does not exist`, 'xlb list'],
  },
  {
    what: "connections of a backend that is another service's",
    argv: ['connections', WEB, '--backend', '10.89.0.22'],
    code: 1,
    says: [`backend 10.89.0.22 of ${WEB} does not exist`, '10.89.0.21'],
  },
  {
    what: 'connections of a backend that no service has',
    argv: ['connections', '--backend', '10.89.0.99'],
    code: 1,
    says: ['backend 10.89.0.99 does not exist in any service', 'xlb list'],
  },
  {
    what: 'trace at an interface that is not attached',
    argv: ['trace', 'tcp', '10.89.0.1:40000', '10.89.0.100:80', '--interface', 'eth9'],
    code: 1,
    says: ['not attached to eth9', 'eth0'],
  },
  {
    what: 'a VIP as a backend',
    argv: ['backend', 'set', WEB, '10.89.0.100'],
    code: 1,
    says: ['10.89.0.100', 'is a VIP itself', 'by its own address'],
  },
  {
    what: 'a backend as a VIP',
    argv: ['service', 'add', 'tcp://10.89.0.21:80'],
    code: 1,
    says: ['10.89.0.21', 'is a VIP itself'],
  },
  {
    what: 'a prefix that holds a backend',
    argv: ['service', 'add', 'tcp://10.89.0.0/27:80', '--scheduler', 'dh'],
    code: 1,
    says: ['backend 10.89.0.21', 'is in 10.89.0.0/27, which is a service'],
  },
  {
    what: 'an interface that is attached',
    argv: ['attach', 'eth0'],
    code: 1,
    says: ['attached to eth0 already', 'xlb detach eth0'],
  },
  { what: 'the loopback', argv: ['attach', 'lo'], code: 1, says: ['lo is the loopback', 'eth0'] },
  {
    what: 'detach of an interface that is not attached',
    argv: ['detach', 'eth9'],
    code: 1,
    says: ['not attached to eth9', 'eth0'],
  },
  {
    what: 'a file that is missing',
    argv: ['restore', '/nonexistent/xlb.yaml'],
    code: 1,
    says: ['/nonexistent/xlb.yaml', 'cannot be read', 'xlb save'],
  },
  { what: 'a folder in place of a file', argv: ['restore', '/'], code: 1, says: ['/: cannot be read', 'xlb save'] },
  {
    what: 'a place that cannot be written',
    argv: ['save', '--output', '/nonexistent/xlb.yaml'],
    code: 1,
    says: ['/nonexistent/xlb.yaml'],
  },
]
