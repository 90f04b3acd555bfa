// SPDX-License-Identifier: Apache-2.0
// No YAML, or keys that stand twice.
import { faulty } from './faulty-file.ts'

export const YAML = [
  faulty('an empty file', ``, ['1:1', '', 'is empty', 'write services: [] where none are meant']),
  faulty('a file of comments', `# nothing\n`, ['1:1', '', 'is empty', 'write services: [] where none are meant']),
  faulty('a file that says null', `~\n`, ['1:1', '', 'is empty', 'write services: [] where none are meant']),
  faulty(
    'a file that is a list',
    `
- a
- b
`,
    ['1:1', '', 'a list is not a mapping of keys', 'it takes keys, such as interfaces: and services:'],
  ),
  faulty('a file that is a number', `42\n`, [
    '1:1',
    '',
    '42 is not a mapping of keys',
    'it takes keys, such as interfaces: and services:',
  ]),
  faulty('a file that is a text', `services\n`, [
    '1:1',
    '',
    "'services' is not a mapping of keys",
    'it takes keys, such as interfaces: and services:',
  ]),
  faulty('a brace that is not closed', `services: [ {`, [
    '1:14',
    '',
    'is no YAML: unexpected end of the stream within a flow collection',
    'mend the YAML at that place',
  ]),
  faulty('JSON that ends early', `{ "services": `, [
    '1:15',
    '',
    'is no YAML: unexpected end of the stream within a flow collection',
    'mend the YAML at that place',
  ]),
  faulty('JSON with a trailing bracket', `{ "services": [ ] ] }`, [
    '1:19',
    '',
    'is no YAML: missed comma between flow collection entries',
    'mend the YAML at that place',
  ]),
  faulty(
    'a tab as indentation',
    `
services:
	- service: x
`,
    ['2:1', '', 'is no YAML: tab characters must not be used in indentation', 'indent by spaces'],
  ),
  faulty(
    'an alias without its anchor',
    `
services:
  - *web
`,
    ['2:6', '', 'is no YAML: unidentified alias "web"', 'mend the YAML at that place'],
  ),
  faulty('a tag of no known type', `services: !!set { a }\n`, [
    '1:11',
    '',
    'is no YAML: unknown mapping tag !<tag:yaml.org,2002:set>',
    'mend the YAML at that place',
  ]),
  faulty(
    'an unknown escape',
    `
services:
  - service: "tcp:\\q"
`,
    ['2:20', '', 'is no YAML: unknown escape sequence', 'mend the YAML at that place'],
  ),
  faulty(
    'two documents',
    `
services: []
---
services: []
`,
    [
      '1:1',
      '',
      'is no YAML: expected a single document in the stream, but found more',
      'leave one document, without --- between',
    ],
  ),
  faulty('a zero octet', `services: [\0]\n`, [
    '1:12',
    '',
    'is no YAML: null byte is not allowed in input',
    'mend the YAML at that place',
  ]),
  faulty(
    'a list that is indented too little',
    `
services:
  - service: tcp://192.0.2.10:80
  backends: []
`,
    ['3:3', '', 'is no YAML: bad indentation of a mapping entry', 'mend the YAML at that place'],
  ),
  faulty(
    'a colon in a plain text',
    `
services:
  - service: tcp://192.0.2.10: 80: 81
`,
    ['2:30', '', 'is no YAML: bad indentation of a mapping entry', 'mend the YAML at that place'],
  ),
  faulty('nesting without end', `services: ${'['.repeat(200)}\n`, [
    '1:110',
    '',
    'is no YAML: nesting exceeded maxDepth (100)',
    'mend the YAML at that place',
  ]),
  faulty(
    'a key twice, and what else is wrong',
    `
interfaces: [eth0]
limits: { flows: 5 }
interfaces: [eth1]
`,
    ['2:18', 'limits.flows', '5 is below 1024', 'it takes 1024 to 16777216, rounded up likewise;'],
    ['3:1', 'interfaces', "key 'interfaces' is there twice, first in line 1", 'keep one of the two'],
  ),
  faulty(
    'a key twice in a service',
    `
services:
  - service: tcp://192.0.2.10:80
    scheduler: rr
    scheduler: wrr
`,
    ['4:5', 'services[0].scheduler', "key 'scheduler' is there twice, first in line 3", 'keep one of the two'],
  ),
  faulty(
    'a key three times',
    `filter: { allow: [], allow: [], allow: [] }\n`,
    ['1:22', 'filter.allow', "key 'allow' is there twice, first in line 1", 'keep one of the two'],
    ['1:33', 'filter.allow', "key 'allow' is there twice, first in line 1", 'keep one of the two'],
  ),
]
