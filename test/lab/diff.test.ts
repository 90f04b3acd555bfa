// SPDX-License-Identifier: Apache-2.0
// xlb diff says what restore would change, changes nothing, and shows no secret.
import test from 'ava'
import { stateOf } from '../cli/wrong.ts'
import { hasRoot, Lab } from './lab.ts'
import { attach, backends, restore, save, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip

const neighbours = async (lab: Lab): Promise<string> =>
  (await lab.run('director', ['ip', 'neigh', 'show', '10.89.0.99'])).stdout === '' ? 'not asked for' : 'asked for'

const diff = async (lab: Lab, file: string, ...more: string[]): Promise<string> => {
  const before = stateOf(lab) + (await neighbours(lab))
  const text = await xlb(lab, ['diff', '-c', '-', ...more], { input: file })
  if (stateOf(lab) + (await neighbours(lab)) !== before) throw new Error('diff has changed the state')
  return text
}

labTest('of what is saved nothing would change; of another file, what restore then changes', async (t) => {
  const lab = await Lab.up(t)
  await attach(lab)
  const [rs1 = [], rs2 = []] = backends(lab, 1, 2).map((each) => [each])
  const web = 'tcp://10.89.0.100:80'
  await restore(lab, [
    { service: web, scheduler: 'mh', seed: '0x00000000deadbeef', backends: [...rs1, ...rs2] },
    { service: 'tcp://10.89.0.100:81', backends: rs1 },
    { service: 'tcp://10.89.0.100:82', backends: [] },
  ])
  const saved = await save(lab)
  t.is(await diff(lab, saved), 'nothing would change\n')

  const file = JSON.stringify({
    interfaces: ['eth0', 'eth7'],
    limits: { flows: 1024, 'new-flows': 1000 },
    filter: { default: 'deny', allow: ['192.0.2.0/24'] },
    timeouts: { udp: '10m' },
    services: [
      {
        service: web,
        scheduler: 'rr',
        seed: '0x00000000feedbeef',
        backends: [{ address: '10.89.0.21', weight: 7 }, { address: '10.89.0.99' }],
      },
      { service: 'tcp://10.89.0.100:82', scheduler: 'wrr', backends: [] },
      { service: 'tcp://10.89.0.100:83', seed: '0x00000000cafebeef', backends: [{ address: '10.89.0.21' }] },
    ],
  })
  const text = await diff(lab, file)
  t.deepEqual(
    text.trimEnd().split('\n').sort(),
    [
      '    + backend 10.89.0.99: weight 1',
      '    + backend 10.89.0.21: weight 1',
      '    - backend 10.89.0.22',
      '    hash: source-port -> source-port',
      '    scheduler: mh -> rr',
      '    seed: changes; it is secret',
      '    ~ backend 10.89.0.21: weight: 1 -> 7',
      '+ interface eth7, with xlb restore --attach',
      '+ service tcp://10.89.0.100:83: scheduler wrr, forward dsr, hash source-port',
      '- service tcp://10.89.0.100:81, with 1 backend',
      '~ filter.allow: +192.0.2.0/24',
      '~ filter.default: not said -> deny',
      '~ limits.new-flows: 250000 -> 1000',
      '~ service tcp://10.89.0.100:80',
      '~ timeouts.udp: 5m -> 10m',
      'limits.flows: 1024 is wanted, and 65536 is attached: it changes with xlb detach --all and xlb restore --attach alone',
    ]
      .filter((line) => !line.includes('hash: '))
      .sort(),
  )
  const json = await diff(lab, file, '--json')
  t.notRegex(text + json, /beef/i, 'no seed is shown')
  const { services } = JSON.parse(json) as { services: { kind: string; name: string; backends: unknown[] }[] }
  t.deepEqual(services.map(({ kind, name }) => `${kind} ${name.slice(-2)}`).sort(), [
    'add 83',
    'change 80',
    'remove 81',
  ])
  const restored = JSON.parse(await xlb(lab, ['restore', '-', '--force', '--json'], { input: file })) as {
    changed: { kind: string; service: string }[]
  }
  t.deepEqual(restored.changed.map(({ kind, service }) => `${kind} ${service.slice(-2)}`).sort(), [
    'add 83',
    'change 80',
    'remove 81',
  ])
  t.regex(await diff(lab, JSON.stringify({ ...JSON.parse(file), interfaces: [], limits: {} })), /^nothing would change/)
})

labTest('where nothing is attached, all of a file is new; a faulty file is refused as check refuses it', async (t) => {
  const lab = await Lab.up(t)
  const file = 'interfaces: [eth0]\nservices: [ { service: tcp://10.89.0.100:80 } ]\n'
  const text = await xlb(lab, ['diff', '-c', '-'], { input: file })
  t.deepEqual(text.split('\n').slice(0, 3), [
    'xlb is not attached: all of it is new',
    '+ interface eth0, with xlb restore --attach',
    '+ service tcp://10.89.0.100:80: scheduler wrr, forward dsr, hash source-port',
  ])
  const wrong = await lab.xlb(['diff', '-c', '-'], { input: 'servces: []\n' })
  t.is(wrong.code, 1)
  t.regex(wrong.stderr, /-:1:1: servces: key 'servces' is not known; write services/)
})
