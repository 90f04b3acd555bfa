// SPDX-License-Identifier: Apache-2.0
// Pins that a daemon did not load its configuration onto hold nothing of it, whoever made them: they are made what it was, and what verbs
// made of that is there again.
import { existsSync, rmSync, writeFileSync } from 'node:fs'
import test from 'ava'
import { configFile, configure, listed, problems, startDaemon, until } from './daemon.ts'
import { hasRoot, Lab } from './lab.ts'
import { type Listing, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip

/** `SERVICE BACKEND STATE`, of all. */
const statesOf = ({ services }: Listing): string[] =>
  services.flatMap(({ service, backends }) => backends.map(({ address, state }) => `${service} ${address} ${state}`))

labTest('what was loaded, and what verbs did since, is made again on other pins', async (t) => {
  const lab = await Lab.up(t, { servers: 2 })
  const [rs1, rs2] = [lab.host('rs1').address, lab.host('rs2').address]
  const [web, mail] = [`tcp://${lab.vip}:80`, `tcp://${lab.vip}:25`]
  const file = configFile(t)
  const config = {
    interfaces: ['eth0'],
    services: [
      { service: web, seed: '0x1', backends: [{ address: rs1 }, { address: rs2 }] },
      { service: mail, seed: '0x2', backends: [{ address: rs1 }] },
    ],
  }
  configure(file, config)
  await lab.http(1, 80)
  const pins = `/sys/fs/bpf/xlb/${lab.instance()}`
  const wanted = [`${mail} ${rs1} up`, `${web} ${rs1} up`, `${web} ${rs2} drain`]
  const isWhole = async () => {
    const found = await listed(lab).catch(() => undefined)
    return found !== undefined && statesOf(found).join() === wanted.join()
  }

  const first = await startDaemon(lab, file)
  await xlb(lab, ['backend', 'drain', web, rs2])
  await until('all is as it shall be', 5000, isWhole)

  writeFileSync(file, 'services: nonsense\n')
  t.is((await lab.xlb(['reload'])).code, 1)
  rmSync(pins, { recursive: true })
  await until('it is made again, though the file is faulty', 10_000, isWhole)
  t.is((await lab.curl(`http://${lab.vip}/`)).code, 0)
  t.true((await problems(lab)).some((each) => each.startsWith('degraded: the last reload was refused')))
  configure(file, config)
  await xlb(lab, ['reload'])
  t.true(await isWhole())
  await first.stop('SIGKILL')

  await xlb(lab, ['detach', '--all'])
  configure(file, { ...config, limits: { services: 1 } })
  const refused = await lab.xlb(['run', '-c', file])
  t.is(refused.code, 1)
  t.regex(refused.stderr, /the table of services is full/)
  t.false(existsSync(pins), 'what a refused start has attached is detached')

  // Somebody attaches, and the daemon comes after that.
  configure(file, config)
  await xlb(lab, ['attach', 'eth0'])
  const second = await startDaemon(lab, file)
  await until('it is made on pins that held nothing', 5000, isWhole)
  await second.stop('SIGKILL')

  // As xlb-restore.service does when the host comes up.
  await xlb(lab, ['detach', '--all'])
  await xlb(lab, ['restore', '--attach', '--force', file])
  await startDaemon(lab, file)
  await until('what was drained is so after the host came up', 5000, isWhole)
})
