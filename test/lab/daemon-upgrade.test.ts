// SPDX-License-Identifier: Apache-2.0
// `xlb upgrade` beside a daemon: the programs of its interfaces are replaced, clients notice nothing, and the daemon goes on.
import test from 'ava'
import { mapPin, pathsOf } from '../../src/shell/instance.ts'
import { configFile, configure, problems, startDaemon, until } from './daemon.ts'
import { hasRoot, Lab } from './lab.ts'
import { native, tagsOf, useVersion } from './program.ts'
import { compileVariant } from './variant.ts'
import { ask, backends, save, tally, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip

const HELD = 40
/**
 * Of requests and of connections: none. A link update gives an interface its next program in one step, so that no packet meets none; and
 * both programs work on the same tables, which the daemon goes on to keep.
 */
const LOST = 0

labTest('programs are replaced beside a daemon: no client notices, and it goes on to work', async (t) => {
  const lab = await Lab.up(t)
  const file = configFile(t)
  const [rs1, rs2, rs3] = backends(lab, 1, 1, 1)
  const service = `tcp://${lab.vip}:80`
  const lines = { service: `tcp://${lab.vip}:7000`, scheduler: 'rr', backends: [rs1, rs2, rs3] }
  configure(file, {
    interfaces: ['eth0'],
    limits: { flows: 65_536 },
    services: [{ service, scheduler: 'rr', backends: [rs1, rs2] }, lines],
  })
  await Promise.all([1, 2, 3].flatMap((server) => [lab.http(server, 80), lab.lines(server, 7000)]))
  const daemon = await startDaemon(lab, file)
  await until('all answer', 5000, async () => (await problems(lab)).length === 0)
  const ours = tagsOf(lab)
  const saved = await save(lab)

  const held = await lab.holdLines(7000, HELD, 20)
  const requests = lab.spawn('client', [
    ...['curl', '--silent', '--show-error', '--fail', '--max-time', '5', '--rate', '200/s'],
    ...['--header', 'Connection: close', `http://${lab.vip}/?[1-1000000]`],
  ])
  await requests.waitFor(/(rs\d\n){20}/)
  useVersion(lab, compileVariant(1)).close()
  t.notDeepEqual(tagsOf(lab), ours, 'another version is in place')
  const whileReplaced = ['backend', 'set', service, rs2?.address ?? '', '--weight', '2']
  const [said] = await Promise.all([xlb(lab, ['upgrade']), xlb(lab, whileReplaced)])
  t.regex(said, /replaced 1 program/)
  t.deepEqual(tagsOf(lab), ours)
  t.deepEqual(await problems(lab), [`notice: ${service}: changed at run time, and otherwise in ${file}`])

  await requests.stop()
  const answers = requests.stdout.trim().split('\n')
  t.log(`${answers.length} requests, ${HELD} connections`)
  t.true(answers.length > 100)
  t.is(requests.stderr.split('\n').filter((line) => line !== '').length, LOST, requests.stderr)
  const { intact, lost } = JSON.parse((await held.stop()).stdout.trim().split('\n').at(-1) ?? '{}')
  t.deepEqual([intact, lost.length], [HELD, LOST], JSON.stringify(lost))

  await xlb(lab, ['backend', 'set', service, rs2?.address ?? '', '--weight', '1'])
  t.is(await save(lab), saved)
  const map = native.openMap(mapPin(pathsOf(lab.instance()).pins, 'backends'))
  new Uint8Array(map.mmap()).fill(0)
  await daemon.waitFor(/octets of backends were changed/, 5000)
  map.unmap()
  map.close()
  t.is(await save(lab), saved, 'what the daemon mends is what was there')
  await xlb(lab, ['backend', 'set', service, rs3?.address ?? ''])
  t.deepEqual(Object.keys(tally(await ask(lab, 6))).sort(), ['rs1', 'rs2', 'rs3'])

  const told = daemon.stdout.split('\n')
  t.deepEqual(
    told.filter((line) => line.includes('"level":"error"')),
    [],
  )
  t.is(told.filter((line) => line.includes('"kind":"interface"')).length, 1, 'attached once, and never anew')
})
