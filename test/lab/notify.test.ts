// SPDX-License-Identifier: Apache-2.0
// What a command of the configuration hears of a daemon.
import { chmodSync, existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import test from 'ava'
import { configFile, configure, startDaemon, until } from './daemon.ts'
import { hasRoot, Lab } from './lab.ts'
import { xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip

labTest('a command hears what happens, in order, as nobody; and a reload gives another or takes it away', async (t) => {
  const lab = await Lab.up(t, { servers: 1 })
  const file = configFile(t)
  // Where nobody may write.
  const folder = mkdtempSync(join(tmpdir(), 'xlb-notify-'))
  t.teardown(() => rmSync(folder, { recursive: true, force: true }))
  chmodSync(folder, 0o777)
  const told = join(folder, 'told')
  const tell = join(folder, 'tell')
  writeFileSync(
    tell,
    // What is looked for last is written last.
    `#!/bin/sh\ncat >> ${told}.json\necho "$(id -un) $1 $XLB_KIND $XLB_BACKEND $XLB_TO" >> ${told}\n`,
    { mode: 0o755 },
  )
  chmodSync(tell, 0o755)
  const { address } = lab.host('rs1')
  const service = `tcp://${lab.vip}:80`
  const config = (notify: unknown) => ({
    interfaces: ['eth0'],
    ...(notify === undefined ? {} : { notify }),
    services: [{ service, backends: [{ address, weight: 2 }] }],
  })
  const heard = (name = told): string[] => (existsSync(name) ? readFileSync(name, 'utf8').trim().split('\n') : [])
  configure(file, config({ command: [tell, 'first'] }))
  const daemon = await startDaemon(lab, file)
  await until('the backend is heard of', 10_000, () => heard().some((line) => line.endsWith(`${address} up 2`)))
  t.regex(heard()[0] ?? '', /^nobody first interface {2}attached/)
  const before = heard().length
  await xlb(lab, ['backend', 'drain', service, address])
  await xlb(lab, ['backend', 'maint', service, address])
  await xlb(lab, ['backend', 'set', service, address])
  await until('the verbs are heard of', 10_000, () => heard().length >= before + 3)
  t.deepEqual(
    heard().slice(before),
    ['drain 2', 'maint 2', 'up 2'].map((state) => `nobody first backend ${address} ${state}`),
  )
  const lines = heard(`${told}.json`).map((line) => JSON.parse(line))
  t.like(lines.at(-3), { kind: 'backend', subject: service, backend: address, from: 'up 2', to: 'drain 2' })

  configure(file, config({ command: [tell, 'second'], timeout: 7 }))
  await xlb(lab, ['reload'])
  await xlb(lab, ['backend', 'drain', service, address])
  await until('the other one is told', 10_000, () => heard().at(-1) === `nobody second backend ${address} drain 2`)
  configure(file, config({ command: [join(folder, 'nowhere')] }))
  await xlb(lab, ['reload'])
  await xlb(lab, ['backend', 'set', service, address])
  await daemon.waitFor(/notify: \S+nowhere ended with exit code 127: .*No such file/)
  configure(file, config(undefined))
  await xlb(lab, ['reload'])
  const last = heard().length
  await xlb(lab, ['backend', 'drain', service, address])
  await daemon.stop('SIGTERM')
  t.is(heard().length, last)
})
