// SPDX-License-Identifier: Apache-2.0
// Services by themselves and beside each other.
import { faulty } from './faulty-file.ts'

export const SERVICES = [
  faulty(
    'a name that is none, and one of two services',
    `
services:
  - { name: "web server", service: tcp://192.0.2.10:80 }
  - { name: 7, service: tcp://192.0.2.10:81 }
  - { name: web, service: tcp://192.0.2.10:82 }
  - { name: web, service: tcp://192.0.2.10:83 }
`,
    [
      '2:13',
      'services[0].name',
      "service tcp://192.0.2.10:80: 'web server' is no name",
      'choose up to 31 letters, digits, dots, dashes',
    ],
    ['3:13', 'services[1].name', '7 is a number, and a text is wanted', 'put it in quotes'],
    [
      '5:13',
      'services[3].name',
      'service tcp://192.0.2.10:83: tcp://192.0.2.10:82 is called web already',
      'choose another name for one of the two',
    ],
  ),
  faulty(
    'a service without its address',
    `
services:
  - scheduler: rr
`,
    ['2:5', 'services[0].service', 'is missing', 'it takes tcp://VIP:PORTS or udp://VIP:PORTS;'],
  ),
  faulty(
    'a service without a port',
    `
services:
  - service: tcp://192.0.2.10
    scheduler: rr
`,
    ['2:14', 'services[0].service', "service 'tcp://192.0.2.10': has no port", 'write tcp://192.0.2.10:80'],
  ),
  faulty(
    'a service of an unknown protocol',
    `
services:
  - service: sctp://192.0.2.10:80
    scheduler: rr
`,
    [
      '2:14',
      'services[0].service',
      "service 'sctp://192.0.2.10:80': protocol 'sctp' is not balanced",
      'choose tcp or udp',
    ],
  ),
  faulty(
    'a port beyond all ports',
    `
services:
  - service: tcp://192.0.2.10:70000
    scheduler: rr
`,
    [
      '2:14',
      'services[0].service',
      "service 'tcp://192.0.2.10:70000': port 70000 exceeds 65535",
      'choose a port from 1 to 65535',
    ],
  ),
  faulty(
    'port 0',
    `
services:
  - service: tcp://192.0.2.10:0
    scheduler: rr
`,
    [
      '2:14',
      'services[0].service',
      "service 'tcp://192.0.2.10:0': port 0 is reserved",
      'choose a port from 1 to 65535',
    ],
  ),
  faulty(
    'a range that runs backwards',
    `
services:
  - service: tcp://192.0.2.10:90-80
    scheduler: rr
`,
    [
      '2:14',
      'services[0].service',
      "service 'tcp://192.0.2.10:90-80': the range 90-80 runs backwards",
      'write tcp://192.0.2.10:80-90',
    ],
  ),
  faulty(
    'a VIP that is no address',
    `
services:
  - service: tcp://www.example.org:80
    scheduler: rr
`,
    [
      '2:14',
      'services[0].service',
      "service 'tcp://www.example.org:80': 'www.example.org' is neither an IPv4 nor an IPv6 address",
      'give a unicast address such as 192.0.2.10',
    ],
  ),
  faulty(
    'a VIP that is multicast',
    `
services:
  - service: udp://224.0.0.18:80
    scheduler: rr
`,
    [
      '2:14',
      'services[0].service',
      "service 'udp://224.0.0.18:80': 224.0.0.18 is a multicast address",
      'give a unicast address such as 192.0.2.10',
    ],
  ),
  faulty(
    'an IPv6 VIP without brackets',
    `
services:
  - service: tcp://2001:db8::1:80
    scheduler: rr
`,
    [
      '2:14',
      'services[0].service',
      "service 'tcp://2001:db8::1:80': is not of the form PROTOCOL://VIP:PORT",
      'write tcp://[2001:db8::1:80]:80',
    ],
  ),
  faulty(
    'a prefix with bits behind it',
    `
services:
  - service: tcp://192.0.2.10/24:80
    scheduler: dh
`,
    [
      '2:14',
      'services[0].service',
      "service 'tcp://192.0.2.10/24:80': 192.0.2.10 has bits behind the first 24",
      'write tcp://192.0.2.0/24:80',
    ],
  ),
  faulty(
    'a number as a service',
    `
services:
  - service: 80
`,
    ['2:14', 'services[0].service', '80 is a number, and a text is wanted', 'put it in quotes'],
  ),
  faulty(
    'an unknown scheduler',
    `
services:
  - service: tcp://192.0.2.10:80
    scheduler: fastest
`,
    ['3:16', 'services[0].scheduler', "'fastest' is not known", 'it takes rr, wrr, mh, sh, dh, lc, wlc, sed, nq'],
  ),
  faulty(
    'a mistyped key',
    `
services:
  - service: tcp://192.0.2.10:80
    sheduler: rr
`,
    ['3:5', 'services[0].sheduler', "key 'sheduler' is not known", 'write scheduler'],
  ),
  faulty(
    'an unknown way to forward',
    `
services:
  - service: tcp://192.0.2.10:80
    forward: nat
`,
    ['3:14', 'services[0].forward', "'nat' is not known", 'it takes dsr'],
  ),
  faulty(
    'dh without a prefix',
    `
services:
  - service: tcp://192.0.2.10:80
    scheduler: dh
`,
    [
      '3:16',
      'services[0].scheduler',
      'service tcp://192.0.2.10:80: dh chooses by the destination, and a single VIP is the only one that its packets have',
      'choose rr, wrr, mh or sh; or make it a service',
    ],
  ),
  faulty(
    'a hash of the destination without dh',
    `
services:
  - service: tcp://192.0.2.10:80
    scheduler: mh
    hash: destination
`,
    [
      '3:16',
      'services[0].scheduler',
      'service tcp://192.0.2.10:80: mh does not hash the destination',
      'choose source or source-port; or a prefix, and',
    ],
  ),
  faulty(
    'an unknown hash',
    `
services:
  - service: tcp://192.0.2.10:80
    hash: port
`,
    ['3:11', 'services[0].hash', "'port' is not known", 'it takes source, source-port, destination (the'],
  ),
  faulty(
    'ops of TCP',
    `
services:
  - service: tcp://192.0.2.10:80
    ops: true
`,
    [
      '3:10',
      'services[0].ops',
      'service tcp://192.0.2.10:80: one-packet scheduling would spread the segments of one TCP connection over backends',
      'leave ops out, or choose a udp:// service',
    ],
  ),
  faulty(
    'ops as a text',
    `
services:
  - service: tcp://192.0.2.10:80
    ops: "yes"
`,
    ['3:10', 'services[0].ops', "'yes' is not true or false", 'it takes true: one-packet scheduling, for UDP;'],
  ),
  faulty(
    'ops with lc',
    `
services:
  - service: udp://192.0.2.10:53
    ops: true
    scheduler: lc
`,
    [
      '3:10',
      'services[0].ops',
      'service udp://192.0.2.10:53: one-packet scheduling records no flow, and lc goes by the flows that are recorded: all would go to one backend',
      'leave ops out, or choose --scheduler rr or wrr',
    ],
  ),
]
