// SPDX-License-Identifier: Apache-2.0
// Keys of the file, interfaces, limits and timeouts; and what xlb does not have yet.
import { faulty } from './faulty-file.ts'

export const TOP = [
  faulty('an unknown key', `servces: []\n`, ['1:1', 'servces', "key 'servces' is not known", 'write services']),
  faulty('an unknown key like no other', `zzz: 1\n`, [
    '1:1',
    'zzz',
    "key 'zzz' is not known",
    'the keys here are: include, interfaces, limits,',
  ]),
  faulty('keys of an object', `__proto__: { services: [] }\n`, [
    '1:1',
    '__proto__',
    "key '__proto__' is not known",
    'the keys here are: include, interfaces, limits,',
  ]),
  faulty(
    'another key of an object',
    `
constructor: 1
toString: 2
`,
    ['1:1', 'constructor', "key 'constructor' is not known", 'the keys here are: include, interfaces, limits,'],
    ['2:1', 'toString', "key 'toString' is not known", 'the keys here are: include, interfaces, limits,'],
  ),
  faulty('services as a mapping', `services: { web: tcp://192.0.2.10:80 }\n`, [
    '1:11',
    'services',
    'a mapping of keys is not a list',
    'it takes a list of services',
  ]),
  faulty('services without a value', `services:\n`, ['1:1', 'services', 'has no value', 'it takes a list of services']),
  faulty('a service that is a text', `services: [ tcp://192.0.2.10:80 ]\n`, [
    '1:13',
    'services[0]',
    "'tcp://192.0.2.10:80' is not a mapping of keys",
    'it takes keys, such as { service:',
  ]),
  faulty(
    'an entry that is nothing but its dash',
    `
services:
  - service: tcp://192.0.2.10:80
  -
`,
    ['3:3', 'services[1]', 'has no value', 'it takes keys, such as { service:'],
  ),
  faulty(
    'a notification by mail',
    `notify: { mail: root@example.org }\n`,
    ['1:9', 'notify.command', 'is missing', 'it takes a list: the program'],
    ['1:11', 'notify.mail', "key 'mail' is not known", 'the keys here are: command, user, timeout'],
  ),
  faulty('a notification by a shell', `notify: { command: "mail -s xlb root" }\n`, [
    '1:20',
    'notify.command',
    "'mail -s xlb root' is not a list",
    'it takes a list: the program',
  ]),
  faulty(
    'a notification without a program, and in no time',
    `
notify:
  command: []
  timeout: 0
`,
    ['2:12', 'notify.command', 'is empty', 'it takes a list: the program'],
    ['3:12', 'notify.timeout', "timeout '0': is not within 1s and 10m", 'choose 1s to 10m'],
  ),
  faulty(
    'VRRP',
    `
vrrp:
  - { name: main, interface: eth0 }
`,
    ['1:1', 'vrrp', 'is for VRRP, which xlb does not have yet', 'leave it out'],
  ),
  faulty(
    'an API that listens nowhere, with a token that is short',
    `
api:
  listen: [localhost]
  token: "0123456789"
  mode: 0666
`,
    ['2:12', 'api.listen[0]', "'localhost' is no ADDRESS:PORT, such as 127.0.0.1:9618", 'it takes'],
    ['3:10', 'api.token', 'its value is shorter than 16 characters', 'it takes'],
    ['4:3', 'api.mode', "key 'mode' is not known", ''],
  ),
  faulty('interfaces as a text', `interfaces: eth0\n`, [
    '1:13',
    'interfaces',
    "'eth0' is not a list",
    'it takes a list of interfaces: names, or {',
  ]),
  faulty('an interface that is a number', `interfaces: [ 7 ]\n`, [
    '1:15',
    'interfaces[0]',
    '7 is none of what it takes',
    'it takes a name, or { name: eth0, mode: native }',
  ]),
  faulty('an interface with a slash', `interfaces: [ eth/0 ]\n`, [
    '1:15',
    'interfaces[0]',
    "'eth/0' is none of what it takes",
    'it takes a name, or { name: eth0, mode: native }',
  ]),
  faulty('an interface with too long a name', `interfaces: [ abcdefghijklmnop ]\n`, [
    '1:15',
    'interfaces[0]',
    "'abcdefghijklmnop' is none of what it takes",
    'it takes a name, or { name: eth0, mode: native }',
  ]),
  faulty('an interface that is a folder', `interfaces: [ .. ]\n`, [
    '1:15',
    'interfaces[0]',
    "'..' is none of what it takes",
    'it takes a name, or { name: eth0, mode: native }',
  ]),
  faulty('an interface without its name', `interfaces: [ { mode: native } ]\n`, [
    '1:15',
    'interfaces[0].name',
    'is missing',
    "it takes an interface's name, of 1 to 15",
  ]),
  faulty(
    'an unknown mode',
    `
interfaces:
  - name: eth0
    mode: fast
`,
    ['3:11', 'interfaces[0].mode', "'fast' is not known", 'it takes auto, native, generic'],
  ),
  faulty('an unknown key of an interface', `interfaces: [ { name: eth0, mod: native } ]\n`, [
    '1:29',
    'interfaces[0].mod',
    "key 'mod' is not known",
    'write mode',
  ]),
  faulty('an interface twice', `interfaces: [ eth0, { name: eth0, mode: native } ]\n`, [
    '1:21',
    'interfaces[1]',
    'eth0 is there twice',
    'keep one of the two',
  ]),
  faulty('a limit that is a text', `limits: { services: many }\n`, [
    '1:21',
    'limits.services',
    "'many' is not a whole number",
    'it takes 1 to 32768, rounded up to a power of',
  ]),
  faulty(
    'limits out of their ranges',
    `
limits:
  flows: 1000
  flows6: 99999999
  clients: 1
  services: 0
  backends: 300000
  prefixes: 0
  new-flows: 0
`,
    ['2:10', 'limits.flows', '1000 is below 1024', 'it takes 1024 to 16777216, rounded up likewise;'],
    ['3:11', 'limits.flows6', '99999999 exceeds 8388608', 'it takes 1024 to 8388608, the same of IPv6; 32'],
    ['4:12', 'limits.clients', '1 is below 1024', 'it takes 1024 to 16777216, of persistent'],
    ['5:13', 'limits.services', '0 is below 1', 'it takes 1 to 32768, rounded up to a power of'],
    ['6:13', 'limits.backends', '300000 exceeds 262144', 'it takes 1 to 262144, over all services,'],
    ['7:13', 'limits.prefixes', '0 is below 1', 'it takes 1 to 1048576, over all filters,'],
    ['8:14', 'limits.new-flows', '0 is below 1', 'it takes 1 to 1073741824: tracked flows that'],
  ),
  faulty('a limit that is no whole number', `limits: { flows: 4096.5 }\n`, [
    '1:18',
    'limits.flows',
    '4096.5 is not a whole number',
    'it takes 1024 to 16777216, rounded up likewise;',
  ]),
  faulty('a limit beyond all numbers', `limits: { flows: 1e400 }\n`, [
    '1:18',
    'limits.flows',
    "'1e400' is not a whole number",
    'it takes 1024 to 16777216, rounded up likewise;',
  ]),
  faulty('an unknown limit', `limits: { flow: 4096 }\n`, [
    '1:11',
    'limits.flow',
    "key 'flow' is not known",
    'write flows',
  ]),
  faulty('limits as a list', `limits: [ 4096 ]\n`, [
    '1:9',
    'limits',
    'a list is not a mapping of keys',
    'it takes keys of limits',
  ]),
  faulty('an unknown timeout', `timeouts: { establishd: 10m }\n`, [
    '1:13',
    'timeouts.establishd',
    "key 'establishd' is not known",
    'write established',
  ]),
  faulty(
    'timeouts that are none',
    `
timeouts:
  established: soon
  closing: 0
  closed: 30m
  udp: 1.5
  udp-once: -3
  adopted: true
`,
    [
      '2:16',
      'timeouts.established',
      "established 'soon': is not a span of time",
      'give established one such as 90s, 10m or 1h30m',
    ],
    [
      '3:12',
      'timeouts.closing',
      "closing '0': is not within 1s and 29m: an entry's age has 12 bits",
      'choose 1s to 29m; let clients that are idle for',
    ],
    [
      '4:11',
      'timeouts.closed',
      "closed '30m': is not within 1s and 29m: an entry's age has 12 bits",
      'choose 1s to 29m; let clients that are idle for',
    ],
    ['5:8', 'timeouts.udp', '1.5 is none of what it takes', 'it takes 1s to 29m: UDP, seen again'],
    [
      '6:13',
      'timeouts.udp-once',
      "udp-once '-3': is not a span of time",
      'give udp-once one such as 90s, 10m or 1h30m',
    ],
    ['7:12', 'timeouts.adopted', 'true is none of what it takes', 'it takes 1s to 29m: TCP, first seen in mid-flow'],
  ),
  faulty('a timeout without a value', `timeouts: { udp: }\n`, [
    '1:13',
    'timeouts.udp',
    'has no value',
    'it takes 1s to 29m: UDP, seen again',
  ]),
]
