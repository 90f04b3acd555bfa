// SPDX-License-Identifier: Apache-2.0
// Backends.
import { faulty } from './faulty-file.ts'

const MANY = Array.from({ length: 4001 }, (_, i) => `{ address: 10.0.${i >> 8}.${i & 255} }`)

export const BACKENDS = [
  faulty(
    'backends as a mapping',
    `
services:
  - service: tcp://192.0.2.10:80
    backends: { address: 192.0.2.21 }
`,
    ['3:15', 'services[0].backends', 'a mapping of keys is not a list', 'it takes a list of backends, at most 4000'],
  ),
  faulty(
    'a backend that is a text',
    `
services:
  - service: tcp://192.0.2.10:80
    backends:
      - 192.0.2.21
`,
    [
      '4:9',
      'services[0].backends[0]',
      "'192.0.2.21' is not a mapping of keys",
      'it takes keys, such as { address: 192.0.2.21,',
    ],
  ),
  faulty(
    'a backend without its address',
    `
services:
  - service: tcp://192.0.2.10:80
    backends:
      - { weight: 2 }
`,
    ['4:9', 'services[0].backends[0].address', 'is missing', "it takes an address of the VIP's family, in the"],
  ),
  faulty(
    'a backend that is no address',
    `
services:
  - service: tcp://192.0.2.10:80
    backends:
      - { address: 192.0.2.300 }
`,
    [
      '4:20',
      'services[0].backends[0].address',
      "backend '192.0.2.300': '192.0.2.300' is neither an IPv4 nor an IPv6 address",
      'give a unicast address such as 192.0.2.10',
    ],
  ),
  faulty(
    'a backend with a name',
    `
services:
  - service: tcp://192.0.2.10:80
    backends:
      - address: rs1.example.org
`,
    [
      '4:18',
      'services[0].backends[0].address',
      "backend 'rs1.example.org': 'rs1.example.org' is neither an IPv4 nor an IPv6 address",
      'give a unicast address such as 192.0.2.10',
    ],
  ),
  faulty(
    'a backend of the other family',
    `
services:
  - service: tcp://192.0.2.10:80
    backends:
      - { address: "2001:db8::21" }
`,
    [
      '4:20',
      'services[0].backends[0].address',
      "backend '2001:db8::21': is an IPv6 address and its service is IPv4",
      "give the real server's IPv4 address: direct",
    ],
  ),
  faulty(
    'a backend at another port',
    `
services:
  - service: tcp://192.0.2.10:80
    backends:
      - { address: 192.0.2.21:8080 }
`,
    [
      '4:20',
      'services[0].backends[0].address',
      "backend '192.0.2.21:8080': port 8080 differs from the service's 80, and direct server return rewrites no port",
      'leave the port out, or let the real server',
    ],
  ),
  faulty(
    'a weight that is too great',
    `
services:
  - service: tcp://192.0.2.10:80
    backends:
      - { address: 192.0.2.21, weight: 65536 }
`,
    ['4:40', 'services[0].backends[0].weight', '65536 exceeds 65535', 'it takes 0 to 65535; 0: no new flows'],
  ),
  faulty(
    'a weight below 0',
    `
services:
  - service: tcp://192.0.2.10:80
    backends:
      - address: 192.0.2.21
        weight: -1
`,
    ['5:17', 'services[0].backends[0].weight', '-1 is below 0', 'it takes 0 to 65535; 0: no new flows'],
  ),
  faulty(
    'a weight that is a text',
    `
services:
  - service: tcp://192.0.2.10:80
    backends:
      - { address: 192.0.2.21, weight: heavy }
`,
    ['4:40', 'services[0].backends[0].weight', "'heavy' is not a whole number", 'it takes 0 to 65535; 0: no new flows'],
  ),
  faulty(
    'a weight that is no whole number',
    `
services:
  - service: tcp://192.0.2.10:80
    backends:
      - { address: 192.0.2.21, weight: 1.5 }
`,
    ['4:40', 'services[0].backends[0].weight', '1.5 is not a whole number', 'it takes 0 to 65535; 0: no new flows'],
  ),
  faulty(
    'a weight without a value',
    `
services:
  - service: tcp://192.0.2.10:80
    backends:
      - { address: 192.0.2.21, weight: }
`,
    ['4:32', 'services[0].backends[0].weight', 'has no value', 'it takes 0 to 65535; 0: no new flows'],
  ),
  faulty(
    'an unknown admin state',
    `
services:
  - service: tcp://192.0.2.10:80
    backends:
      - { address: 192.0.2.21, admin: down }
`,
    ['4:39', 'services[0].backends[0].admin', "'down' is not known", 'it takes up, drain (no new flows), maint (no'],
  ),
  faulty(
    'an admin state spelled out',
    `
services:
  - service: tcp://192.0.2.10:80
    backends:
      - { address: 192.0.2.21, admin: maintenance }
      - { address: 192.0.2.22, admin: maint }
`,
    [
      '4:39',
      'services[0].backends[0].admin',
      "'maintenance' is not known",
      'it takes up, drain (no new flows), maint (no',
    ],
  ),
  faulty(
    'a VLAN that is none',
    `
services:
  - service: tcp://192.0.2.10:80
    backends:
      - { address: 192.0.2.21, vlan: 4095 }
`,
    ['4:38', 'services[0].backends[0].vlan', '4095 exceeds 4094', 'it takes 1 to 4094: its frames leave with this'],
  ),
  faulty(
    'a limit of connections that is none',
    `
services:
  - service: tcp://192.0.2.10:80
    backends:
      - { address: 192.0.2.21, max-conns: 10:20 }
`,
    [
      '4:43',
      'services[0].backends[0].max-conns',
      "max-conns '10:20': LOWER 20 is not from 1 to UPPER 10",
      'give max-conns a number such as 1000,',
    ],
  ),
  faulty(
    'a limit of connections of a hashed service',
    `
services:
  - service: tcp://192.0.2.10:80
    scheduler: mh
    backends:
      - { address: 192.0.2.20 }
      - { address: 192.0.2.21, max-conns: 5 }
`,
    [
      '6:43',
      'services[0].backends[1].max-conns',
      'backend 192.0.2.21 of tcp://192.0.2.10:80: mh goes by its ring alone, whatever connections there are, so that --max-conns cannot hold',
      'choose --scheduler rr, wrr, lc, wlc, sed or nq,',
    ],
  ),
  faulty(
    'a backend twice',
    `
services:
  - service: tcp://192.0.2.10:80
    backends:
      - { address: 192.0.2.21 }
      - { address: 192.0.2.22 }
      - { address: 192.0.2.21, weight: 3 }
`,
    [
      '6:9',
      'services[0].backends[2]',
      'backend 192.0.2.21 of tcp://192.0.2.10:80: is there twice',
      'name it once, with the sum of the weights',
    ],
  ),
  faulty(
    'a backend that is a VIP',
    `
services:
  - service: tcp://192.0.2.10:80
    backends: [ { address: 192.0.2.11 } ]
  - service: tcp://192.0.2.11:80
`,
    [
      '3:17',
      'services[0].backends[0]',
      'backend 192.0.2.11 of tcp://192.0.2.10:80: is a VIP itself: packets would go round in a circle',
      'name the real server by its own address',
    ],
  ),
  faulty(
    'backends within the prefix of a service',
    `
services:
  - service: tcp://192.0.2.0/28:80
    scheduler: dh
    backends:
      - address: 192.0.2.99
      - address: 192.0.2.9
`,
    [
      '6:9',
      'services[0].backends[1]',
      'backend 192.0.2.9 of tcp://192.0.2.0/28:80: is in 192.0.2.0/28, which is a service: packets for its own address would be balanced',
      'name a real server outside of it, or make the',
    ],
  ),
  faulty(
    'wrong backends of which one is behind an alias',
    `
services:
  - service: tcp://192.0.2.10:80
    backends: &all
      - { address: 192.0.2.21, weight: x }
  - service: tcp://192.0.2.11:80
    backends: *all
`,
    ['4:40', 'services[0].backends[0].weight', "'x' is not a whole number", 'it takes 0 to 65535; 0: no new flows'],
    ['4:40', 'services[1].backends[0].weight', "'x' is not a whole number", 'it takes 0 to 65535; 0: no new flows'],
  ),
  faulty(
    'a backend behind others that are wrong',
    `
services:
  - service: tcp://192.0.2.10:80
    backends:
      - { address: nowhere }
      - { adress: 192.0.2.22 }
      - { address: 192.0.2.23 }
      - { address: 192.0.2.23 }
`,
    [
      '4:20',
      'services[0].backends[0].address',
      "backend 'nowhere': 'nowhere' is neither an IPv4 nor an IPv6 address",
      'give a unicast address such as 192.0.2.10',
    ],
    ['5:9', 'services[0].backends[1].address', 'is missing', "it takes an address of the VIP's family, in the"],
    ['5:11', 'services[0].backends[1].adress', "key 'adress' is not known", 'write address'],
    [
      '7:9',
      'services[0].backends[3]',
      'backend 192.0.2.23 of tcp://192.0.2.10:80: is there twice',
      'name it once, with the sum of the weights',
    ],
  ),
  faulty('too many backends', `services:\n  - service: tcp://192.0.2.10:80\n    backends: [${MANY}]\n`, [
    '3:15',
    'services[0].backends',
    'service tcp://192.0.2.10:80: 4001 backends exceed 4000',
    'spread them over several services',
  ]),
]
