// SPDX-License-Identifier: Apache-2.0
// Defaults, variables and includes.
import { faulty } from './faulty-file.ts'

export const MORE = [
  faulty('a default that is unknown', `defaults: { scheduler: mhh }\n`, [
    '1:24',
    'defaults.scheduler',
    "'mhh' is not known",
    'it takes rr, wrr, mh, sh, dh, lc, wlc, sed, nq',
  ]),
  faulty(
    "a default of what is each service's own",
    `defaults: { backends: [], seed: "0x1" }\n`,
    ['1:13', 'defaults.backends', "key 'backends' is not known", 'the keys here are: scheduler, forward, hash,'],
    ['1:27', 'defaults.seed', "key 'seed' is not known", 'the keys here are: scheduler, forward, hash,'],
  ),
  faulty(
    'a default that a service cannot take',
    `
defaults: { persist: 5m }
services:
  - { service: udp://192.0.2.10:53, ops: true }
`,
    [
      '3:5',
      'services[0].persist',
      'service udp://192.0.2.10:53: one-packet scheduling gives each datagram a backend of its own, persistence each client',
      'leave one of the two out',
    ],
  ),
  faulty(
    'defaults that are wrong at each service',
    `
defaults:
  scheduler: dh
services:
  - { service: tcp://192.0.2.10:80 }
  - { service: tcp://192.0.2.11:80 }
`,
    [
      '4:5',
      'services[0].scheduler',
      'service tcp://192.0.2.10:80: dh chooses by the destination, and a single VIP is the only one that its packets have',
      'choose rr, wrr, mh or sh; or make it a service',
    ],
    [
      '5:5',
      'services[1].scheduler',
      'service tcp://192.0.2.11:80: dh chooses by the destination, and a single VIP is the only one that its packets have',
      'choose rr, wrr, mh or sh; or make it a service',
    ],
  ),
  faulty(
    'a variable where no secret is',
    `
services:
  - service: tcp://\${VIP}:80
`,
    ['2:14', 'services[0].service', 'variables stand for secrets alone, and this is none', 'write the value itself'],
    [
      '2:14',
      'services[0].service',
      `service 'tcp://\${VIP}:80': '\${VIP}' is neither an IPv4 nor an IPv6 address`,
      'give a unicast address such as 192.0.2.10',
    ],
  ),
  faulty(
    'a variable that is not set',
    `
services:
  - service: tcp://192.0.2.10:80
    seed: "\${XLB_TEST_UNSET}"
`,
    ['3:11', 'services[0].seed', 'variable XLB_TEST_UNSET is not set', 'set XLB_TEST_UNSET in the environment'],
  ),
  faulty(
    'a variable that is empty',
    `
services:
  - service: tcp://192.0.2.10:80
    seed: "\${XLB_TEST_EMPTY}"
`,
    ['3:11', 'services[0].seed', 'variable XLB_TEST_EMPTY is empty', 'set XLB_TEST_EMPTY in the environment'],
  ),
  faulty(
    'a variable that is no seed',
    `
services:
  - service: tcp://192.0.2.10:80
    seed: "\${XLB_TEST_SECRET}"
`,
    [
      '3:11',
      'services[0].seed',
      'its value is not 1 to 16 hexadecimal digits after 0x',
      'it takes text: 0x and 1 to 16 hexadecimal',
    ],
  ),
  faulty(
    'a variable whose name is none',
    `
services:
  - service: tcp://192.0.2.10:80
    seed: "0x\${1A}"
`,
    ['3:11', 'services[0].seed', 'has a $ and a brace that are no variable', `write \${NAME}, of letters, digits and`],
  ),
  faulty(
    'a brace that is not closed after a dollar',
    `
services:
  - service: tcp://192.0.2.10:80
    seed: "\${XLB_TEST_SECRET"
`,
    ['3:11', 'services[0].seed', 'has a $ and a brace that are no variable', `write \${NAME}, of letters, digits and`],
  ),
  faulty(
    'an escaped dollar in a seed',
    `
services:
  - service: tcp://192.0.2.10:80
    seed: "$\${XLB_TEST_SECRET}"
`,
    [
      '3:11',
      'services[0].seed',
      'its value is not 1 to 16 hexadecimal digits after 0x',
      'it takes text: 0x and 1 to 16 hexadecimal',
    ],
  ),
  faulty('includes that are no list', `include: more.yaml\n`, [
    '1:10',
    'include',
    "'more.yaml' is not a list",
    'it takes a list of further files: include',
  ]),
  faulty('an include that is a number', `include: [ 7 ]\n`, [
    '1:12',
    'include[0]',
    '7 is a number, and a text is wanted',
    'put it in quotes',
  ]),
  faulty('an include without a name', `include: [ "" ]\n`, [
    '1:12',
    'include[0]',
    'is no name of a file',
    'name a file, or leave it out',
  ]),
  faulty('an include that is not there', `include: [ nowhere.yaml ]\n`, [
    '1:12',
    'include[0]',
    'nowhere.yaml cannot be read: ENOENT',
    'name a file that is there, or leave it out',
  ]),
  faulty('an include that is a folder', `include: [ / ]\n`, [
    '1:12',
    'include[0]',
    '/ cannot be read: EISDIR',
    'name a file that is there, or leave it out',
  ]),
  faulty('a pattern that is none', `include: [ "[z-a].yaml" ]\n`, [
    '1:12',
    'include[0]',
    "'[z-a].yaml' is no pattern",
    'write one such as conf.d/*.yaml',
  ]),
]
