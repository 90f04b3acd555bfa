// SPDX-License-Identifier: Apache-2.0
// Faulty files, given to restore: each is refused with exit code 1, all of its faults named.
import type { Wrong } from './wrong.ts'

const FAULTY = `
services:
  - service: tcp://10.89.0.101:70000
    backends: []
  - service: tcp://10.89.0.102:80
    ring-size: 1000
    backends:
      - { address: 10.89.0.300 }
      - { address: 10.89.0.22 }
      - { address: 10.89.0.22 }
  - { service: "tcp://10.89.0.103:80", backends: [ { address: 10.89.0.102 } ] }
  - { service: "tcp://10.89.0.104:80" }
  - { service: "tcp://10.89.0.104:80" }
`

const RANGES = `
services:
  - { service: "tcp://10.89.0.100:1000-1999" }
  - { service: "tcp://10.89.0.100:1999-2999" }
  - { service: "tcp://10.89.0.100:1500-1600" }
  - { service: "udp://10.89.0.100:1500-1600", backends: [ { address: "10.89.0.21:1500" } ] }
  - { service: "tcp://10.89.0.100:53", ops: true }
`

const MISTYPED = `
interfaces: [ { name: eth0, mode: fast } ]
limits: { services: many }
services:
  - { service: "tcp://10.89.0.101:80", sheduler: rr }
  - { service: "tcp://10.89.0.101:81", scheduler: fastest, backends: [ { address: 10.89.0.22, weight: 70000 } ] }
  - { service: "tcp://10.89.0.101:82", seed: 12345 }
  - { backends: [] }
`

export const BAD_FILES: readonly Wrong[] = [
  {
    what: 'a file with several faults, all of them named',
    argv: ['restore', '-'],
    input: FAULTY,
    code: 1,
    says: [
      'nothing was changed',
      /^ {7}-:3:14: services\[0\]\.service: .*port 70000 exceeds 65535/m,
      /services\[1\]\.ring-size: .*ring size 1000 is not a prime/,
      /services\[1\]\.backends\[0\]\.address: .*'10\.89\.0\.300' is neither an IPv4 nor an IPv6 address/,
      /-:10:9: services\[1\]\.backends\[2\]: .*10\.89\.0\.22.*is there twice/,
      /services\[2\]\.backends\[0\]: .*10\.89\.0\.102.*is a VIP itself/,
      /services\[4\]\.service: tcp:\/\/10\.89\.0\.104:80 is there twice/,
    ],
  },
  {
    what: 'a file with ranges that overlap, all of them named',
    argv: ['restore', '-'],
    input: RANGES,
    code: 1,
    says: [
      'nothing was changed',
      /services\[2\]\.service: .*:1500-1600: overlaps .*:1000-1999: both have ports 1500-1600; give each port to one range/,
      /services\[1\]\.service: .*:1999-2999: overlaps .*:1000-1999: both have port 1999;/,
      /services\[3\]\.backends\[0\]\.address: .*has ports 1500-1600.*leave the port out/,
      /services\[4\]\.ops: .*one-packet scheduling would spread the segments/,
    ],
  },
  {
    what: 'a file with keys and values of the wrong kind, all of them named',
    argv: ['restore', '-'],
    input: MISTYPED,
    code: 1,
    says: [
      /interfaces\[0\]/,
      /limits\.services/,
      /services\[0\].*sheduler/,
      /services\[1\]\.scheduler/,
      /services\[1\]\.backends\[0\]\.weight/,
      /services\[2\]\.seed/,
      /services\[3\]\.service/,
      'nothing was changed',
    ],
  },
  { what: 'malformed YAML', argv: ['restore', '-'], input: 'services: [ {', code: 1, says: ['-: ', /mend/] },
  {
    what: 'malformed JSON',
    argv: ['restore', '-'],
    input: '{ "services": ',
    code: 1,
    says: ['-:1:15: ', /YAML/, /mend/],
  },
  { what: 'a file that is a list', argv: ['restore', '-'], input: '- a\n- b\n', code: 1, says: ['-:1:1: ', /mapping/] },
  { what: 'a file that is a number', argv: ['restore', '-'], input: '42\n', code: 1, says: ['-:1:1: ', /mapping/] },
]
