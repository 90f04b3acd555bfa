// SPDX-License-Identifier: Apache-2.0
// Checks, and who names them.
import { faulty } from './faulty-file.ts'

const NAME_MEND = 'choose up to 31 letters, digits, dots, dashes and underscores'

export const CHECKS = [
  faulty(
    "a check of xlb's own is one fault, whatever else is said of it",
    `
checks:
  hello: { type: http, path: /hello.html, status: 200, rise: 200 }
services:
  - { service: tcp://192.0.2.10:80, check: hello, sorry: 192.0.2.99 }
`,
    [
      '2:18',
      'checks.hello.type',
      "'http' is a check of xlb's own, which it does not have yet",
      'write type: report, and have whoever checks the backends tell it: xlb backend report',
    ],
    ['2:62', 'checks.hello.rise', '200 exceeds 100', 'it takes 1 to 100: so many reports of up'],
    [
      '4:51',
      'services[0].sorry',
      'is for a server for when no backend is left, which xlb does not have yet',
      'leave it out',
    ],
  ),
  faulty(
    'what defaults will say for probes',
    `defaults: { interval: 2s, timeout: 1s }\n`,
    ['1:13', 'defaults.interval', 'is for checks of its own, which xlb does not have yet', 'leave it out'],
    ['1:27', 'defaults.timeout', 'is for checks of its own, which xlb does not have yet', 'leave it out'],
  ),
  faulty(
    'a check without a type, of an unknown one, and of nothing',
    `
checks:
  app: { expires: 30s }
  web: { type: ttl }
  db:
`,
    ['2:8', 'checks.app.type', 'is missing', 'it takes report: somebody else makes it'],
    ['3:16', 'checks.web.type', "'ttl' is not known", 'it takes report: somebody else makes it'],
    ['4:3', 'checks.db', 'has no value', 'it takes keys of checks, such as'],
  ),
  faulty(
    'reports that expire at once, too late, or some time',
    `
checks:
  a: { type: report, expires: 0 }
  b: { type: report, expires: 2d }
  c: { type: report, expires: soon }
services:
  - { service: tcp://192.0.2.10:80, check: c }
`,
    ['2:31', 'checks.a.expires', 'expires of 0s is below 1s', 'choose 1s to 1d; left out'],
    ['3:31', 'checks.b.expires', 'expires of 2d exceeds 1d', 'choose 1s to 1d; left out'],
    ['4:31', 'checks.c.expires', "expires 'soon': is not a span of time", 'give expires one such as 90s'],
  ),
  faulty(
    'counts that are none, and a state that nobody begins with',
    `
checks:
  app: { type: report, rise: 0, fall: 1.5, initially: unknown }
defaults: { rise: 101, fall: twice }
`,
    ['2:30', 'checks.app.rise', '0 is below 1', 'it takes 1 to 100: so many reports of up'],
    ['2:39', 'checks.app.fall', '1.5 is not a whole number', 'it takes 1 to 100: so many reports of down'],
    ['2:55', 'checks.app.initially', "'unknown' is not known", 'it takes up, down (no new flows)'],
    ['3:19', 'defaults.rise', '101 exceeds 100', 'it takes 1 to 100: so many reports of up'],
    ['3:30', 'defaults.fall', "'twice' is not a whole number", 'it takes 1 to 100: so many reports of down'],
  ),
  faulty(
    'a check that there is not is told where it is named, with one that may be meant',
    `
checks:
  application: { type: report }
  db: { type: report }
services:
  - { service: tcp://192.0.2.10:80, check: aplication }
  - { service: tcp://192.0.2.11:80, check: web }
  - { service: tcp://192.0.2.12:80, check: nome }
  - { service: tcp://192.0.2.13:80, check: db }
`,
    ['5:44', 'services[0].check', "there is no check 'aplication'", 'write application'],
    ['6:44', 'services[1].check', "there is no check 'web'", 'write one of: application, db'],
    ['7:44', 'services[2].check', "there is no check 'nome'", 'write none'],
  ),
  faulty(
    'a check of defaults that there is not is told once, whatever services there are',
    `
defaults: { check: app }
services:
  - service: tcp://192.0.2.10:80
  - service: tcp://192.0.2.11:80
  - { service: tcp://192.0.2.12:80, check: none }
`,
    ['1:20', 'defaults.check', "there is no check 'app'", 'add it to checks, or leave it out'],
  ),
  faulty(
    'names that no check may have',
    `
checks:
  none: { type: report }
  my app: { type: report }
  -x: { type: report }
services:
  - { service: tcp://192.0.2.10:80, check: my app }
`,
    ['2:3', 'checks.none', "'none' is no name", NAME_MEND],
    ['3:3', 'checks.my app', "'my app' is no name", NAME_MEND],
    ['4:3', 'checks.-x', "'-x' is no name", NAME_MEND],
  ),
  faulty(
    'checks as a list, and nothing said of whoever names one',
    `
checks: [ { name: app, type: report } ]
services:
  - { service: tcp://192.0.2.10:80, check: app }
`,
    ['1:9', 'checks', 'a list is not a mapping of keys', 'it takes a mapping of names to checks'],
  ),
  faulty(
    'a check that is a number, and keys that no check has',
    `
checks:
  app: { type: report, expire: 30s, interval: 2s }
services:
  - { service: tcp://192.0.2.10:80, check: 7 }
`,
    ['2:24', 'checks.app.expire', "key 'expire' is not known", 'write expires'],
    ['2:37', 'checks.app.interval', "key 'interval' is not known", 'the keys here are: type, expires, rise'],
    ['4:44', 'services[0].check', '7 is a number, and a text is wanted', 'put it in quotes'],
  ),
]
