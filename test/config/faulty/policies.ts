// SPDX-License-Identifier: Apache-2.0
// Rings and seeds of services, persistence, filters and rates.
import { faulty } from './faulty-file.ts'

export const POLICIES = [
  faulty(
    'a ring size that is no prime',
    `
services:
  - service: tcp://192.0.2.10:80
    ring-size: 1000
`,
    [
      '3:16',
      'services[0].ring-size',
      'service tcp://192.0.2.10:80: ring size 1000 is not a prime',
      'choose a prime, such as 4093, 16381 or 65537',
    ],
  ),
  faulty(
    'a ring size that is too large',
    `
services:
  - service: tcp://192.0.2.10:80
    ring-size: 2000003
`,
    [
      '3:16',
      'services[0].ring-size',
      'service tcp://192.0.2.10:80: ring size 2000003 exceeds 1048573',
      'choose a smaller prime, such as 65537',
    ],
  ),
  faulty(
    'a ring size below 0',
    `
services:
  - service: tcp://192.0.2.10:80
    ring-size: -1
`,
    ['3:16', 'services[0].ring-size', '-1 is below 0', 'it takes a prime from the number of backends to'],
  ),
  faulty(
    'a ring smaller than its backends',
    `
services:
  - service: tcp://192.0.2.10:80
    ring-size: 2
    backends: [ { address: 192.0.2.21 }, { address: 192.0.2.22 }, { address: 192.0.2.23 } ]
`,
    [
      '3:16',
      'services[0].ring-size',
      'service tcp://192.0.2.10:80: ring size 2 is smaller than its 3 backends',
      'choose a prime of at least 100 x backends, or 0',
    ],
  ),
  faulty(
    'a seed that is a number',
    `
services:
  - service: tcp://192.0.2.10:80
    seed: 0x0123
`,
    ['3:11', 'services[0].seed', 'its value is a number, and a text is wanted', 'put it in quotes'],
  ),
  faulty(
    'a seed with too many digits',
    `
services:
  - service: tcp://192.0.2.10:80
    seed: "0x0123456789abcdef0"
`,
    [
      '3:11',
      'services[0].seed',
      'its value is not 1 to 16 hexadecimal digits after 0x',
      'it takes text: 0x and 1 to 16 hexadecimal',
    ],
  ),
  faulty(
    'a service twice',
    `
services:
  - { service: tcp://192.0.2.10:80 }
  - { service: TCP://192.0.2.10:80 }
`,
    ['3:16', 'services[1].service', 'tcp://192.0.2.10:80 is there twice', 'keep one of the two'],
  ),
  faulty(
    'ranges that overlap',
    `
services:
  - { service: tcp://192.0.2.10:1000-1999 }
  - { service: tcp://192.0.2.10:1999-2999 }
`,
    [
      '3:16',
      'services[1].service',
      'service tcp://192.0.2.10:1999-2999: overlaps tcp://192.0.2.10:1000-1999: both have port 1999',
      'give each port to one range; a single port or *',
    ],
  ),
  faulty(
    'a persistence that is no span of time',
    `
services:
  - service: tcp://192.0.2.10:80
    persist: long
`,
    [
      '3:14',
      'services[0].persist',
      "persist 'long': is not a span of time",
      'give persist one such as 90s, 10m or 1h30m',
    ],
  ),
  faulty(
    'a persistence that is too long',
    `
services:
  - service: tcp://192.0.2.10:80
    persist: 32d
`,
    [
      '3:14',
      'services[0].persist',
      'service tcp://192.0.2.10:80: persistence of 2764800 s is not within 1 to 2678400',
      'choose 1 to 2678400',
    ],
  ),
  faulty(
    'masks that are none',
    `
services:
  - service: tcp://192.0.2.10:80
    persist: 300s
    persist-mask: 33
    persist-mask6: 0
`,
    ['4:19', 'services[0].persist-mask', '33 exceeds 32', 'it takes 1 to 32: leading bits of an IPv4'],
    ['5:20', 'services[0].persist-mask6', '0 is below 1', 'it takes 1 to 128: the same of IPv6'],
  ),
  faulty(
    'a rejoin-hold and a slow start that are too long, or no spans of time',
    `
services:
  - service: tcp://192.0.2.10:80
    rejoin-hold: 2h
    slow-start: soon
  - service: tcp://192.0.2.11:80
    rejoin-hold: -5
    slow-start: 3601
`,
    ['3:18', 'services[0].rejoin-hold', 'rejoin-hold of 2h exceeds 1h', 'choose 0s to 1h'],
    ['4:17', 'services[0].slow-start', "slow-start 'soon': is not a span of time", 'give slow-start one such as 90s'],
    ['6:18', 'services[1].rejoin-hold', "rejoin-hold '-5': is not a span of time", 'give rejoin-hold one such as 90s'],
    ['7:17', 'services[1].slow-start', 'slow-start of 1h1s exceeds 1h', 'choose 0s to 1h'],
  ),
  faulty(
    'a rejoin-hold of defaults that is too long is told once, whatever services there are',
    `
defaults: { rejoin-hold: 1d }
services:
  - service: tcp://192.0.2.10:80
  - service: tcp://192.0.2.11:80
`,
    ['1:26', 'defaults.rejoin-hold', 'rejoin-hold of 1d exceeds 1h', 'choose 0s to 1h'],
  ),
  faulty(
    'a slow start from nothing, and from more than all',
    `
defaults: { slow-start-from: 0 }
services:
  - service: tcp://192.0.2.10:80
    slow-start-from: 101
  - service: tcp://192.0.2.11:80
    slow-start-from: 10 %
`,
    ['1:30', 'defaults.slow-start-from', '0 is below 1', 'it takes 1 to 100: the share that it begins with'],
    ['4:22', 'services[0].slow-start-from', '101 exceeds 100', 'it takes 1 to 100: the share that it begins with'],
    [
      '6:22',
      'services[1].slow-start-from',
      "'10 %' is not a whole number",
      'it takes 1 to 100: the share that it begins with',
    ],
  ),
  faulty(
    'a mask without a persistence',
    `
services:
  - service: tcp://192.0.2.10:80
    persist-mask: 24
`,
    [
      '2:5',
      'services[0].persist',
      'service tcp://192.0.2.10:80: mask 24 is said of a persistence, and there is none',
      'say for how long: --persist 300s',
    ],
  ),
  faulty(
    'a group without a persistence',
    `
services:
  - service: tcp://192.0.2.10:80
    group: web
`,
    [
      '2:5',
      'services[0].persist',
      'service tcp://192.0.2.10:80: group web is said of a persistence, and there is none',
      'say for how long: --persist 300s',
    ],
  ),
  faulty(
    'a group that is no name',
    `
services:
  - service: tcp://192.0.2.10:80
    persist: 5m
    group: "web server"
`,
    [
      '3:14',
      'services[0].persist',
      "service tcp://192.0.2.10:80: group 'web server' is no name",
      'choose up to 31 letters, digits, dots, dashes',
    ],
  ),
  faulty(
    'persistence with ops',
    `
services:
  - service: udp://192.0.2.10:53
    persist: 5m
    ops: true
`,
    [
      '3:14',
      'services[0].persist',
      'service udp://192.0.2.10:53: one-packet scheduling gives each datagram a backend of its own, persistence each client',
      'leave one of the two out',
    ],
  ),
  faulty(
    'an unknown drain-persistence',
    `
services:
  - service: tcp://192.0.2.10:80
    persist: 5m
    drain-persistence: maybe
`,
    ['4:24', 'services[0].drain-persistence', "'maybe' is not known", 'it takes keep, cut: does a backend that is'],
  ),
  faulty(
    'services of a group that disagree',
    `
services:
  - { service: tcp://192.0.2.10:80, persist: 5m, group: web }
  - { service: tcp://192.0.2.10:443, persist: 6m, group: web }
`,
    [
      '3:58',
      'services[1].group',
      'service tcp://192.0.2.10:443: its persistence 360s group web is not that of tcp://192.0.2.10:80, 300s group web',
      'give all services of a group the same, or',
    ],
  ),
  faulty(
    'a rate of 0',
    `
services:
  - service: tcp://192.0.2.10:80
    source-rate: { rate: 0 }
`,
    ['3:26', 'services[0].source-rate.rate', '0 is below 1', 'it takes 1 to 1000000 connections a second'],
  ),
  faulty(
    'a rate without its rate',
    `
services:
  - service: tcp://192.0.2.10:80
    source-rate: { burst: 10 }
`,
    ['3:18', 'services[0].source-rate.rate', 'is missing', 'it takes 1 to 1000000 connections a second'],
  ),
  faulty(
    'a rate that is a number',
    `
services:
  - service: tcp://192.0.2.10:80
    source-rate: 50
`,
    ['3:18', 'services[0].source-rate', '50 is not a mapping of keys', 'it takes { rate, burst, prefix }: connections'],
  ),
  faulty(
    'a source prefix of IPv6 for IPv4',
    `
services:
  - service: tcp://192.0.2.10:80
    source-rate: { rate: 5, prefix: 64 }
`,
    [
      '3:18',
      'services[0].source-rate',
      'service tcp://192.0.2.10:80: source prefix 64 is not a whole number from 1 to 32',
      'choose 1 to 32',
    ],
  ),
  faulty(
    'a filter with wrong prefixes',
    `
services:
  - service: tcp://192.0.2.10:80
    filter:
      default: drop
      allow: [ 192.0.2.1/24, 198.51.100.0/33, here ]
      deny: [ 7 ]
`,
    ['4:16', 'services[0].filter.default', "'drop' is not known", 'it takes allow, deny: what becomes of a source'],
    [
      '5:16',
      'services[0].filter.allow[0]',
      "prefix '192.0.2.1/24': its address has bits beyond its length of 24",
      'write 192.0.2.0/24, or 192.0.2.1 for that',
    ],
    ['5:30', 'services[0].filter.allow[1]', "prefix '198.51.100.0/33': '33' is no prefix length", 'choose 0 to 32'],
    [
      '5:47',
      'services[0].filter.allow[2]',
      "prefix 'here': is not of the form ADDRESS/LENGTH",
      'write 192.0.2.0/24 or 2001:db8::/32, or an',
    ],
    ['6:15', 'services[0].filter.deny[0]', '7 is a number, and a text is wanted', 'put it in quotes'],
  ),
  faulty(
    'a filter that contradicts itself',
    `
filter:
  allow: [ 192.0.2.0/24 ]
  deny: [ 203.0.113.0/24, 192.0.2.0/24 ]
`,
    ['3:27', 'filter.deny[1]', 'says of a prefix the opposite of allow[0]', 'keep one of the two'],
  ),
  faulty('a filter as a list', `filter: [ 192.0.2.0/24 ]\n`, [
    '1:9',
    'filter',
    'a list is not a mapping of keys',
    'it takes keys of filter, for all services',
  ]),
]
