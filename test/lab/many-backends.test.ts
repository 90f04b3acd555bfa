// SPDX-License-Identifier: Apache-2.0
// A service of 4,000 backends, by command.
import test from 'ava'
import { hasRoot, Lab } from './lab.ts'
import { attach, list, on, restore, type ServiceEntry, save, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip

const NUMBERS = Array.from({ length: 4000 }, (_, i) => i)
const address = (number: number): string => `10.254.${1 + (number >> 8)}.${number & 255}`
const mac = (number: number): string =>
  `02:fe:00:00:${(number + 0x10000)
    .toString(16)
    .slice(1)
    .replace(/..(?=.)/, '$&:')}`

labTest('4,000 backends are restored, one is weighed, one drained, and all are listed and saved', async (t) => {
  const lab = await Lab.up(t, { servers: 0 })
  await on(lab, 'director', 'ip address add 10.254.0.1/16 dev eth0')
  const input = NUMBERS.map((each) => `neighbour add ${address(each)} lladdr ${mac(each)} dev eth0 nud permanent\n`)
  const { code, stderr } = await lab.run('director', ['ip', '-batch', '-'], { input: input.join('') })
  t.is(code, 0, stderr)
  await attach(lab)
  const service = `tcp://${lab.vip}:80`
  const weightOf = (number: number) => 1 + (number % 5)
  const entry: ServiceEntry = {
    service,
    scheduler: 'wrr',
    backends: NUMBERS.map((each) => ({ address: address(each), weight: weightOf(each) })),
  }
  await restore(lab, [entry])
  await xlb(lab, ['backend', 'set', service, address(775), '--weight', '9'])
  await xlb(lab, ['backend', 'drain', service, address(3999)])
  const rows = (await list(lab)).services[0]?.backends ?? []
  const wrong = NUMBERS.filter((each) => {
    const row = rows.find((one) => one.address === address(each))
    const [weight, state] = each === 775 ? [9, 'up'] : [weightOf(each), each === 3999 ? 'drain' : 'up']
    return row?.weight !== weight || row.state !== state || row.mac !== mac(each)
  })
  t.deepEqual(wrong, [])
  t.is(rows.length, NUMBERS.length)
  t.is(await xlb(lab, ['restore', '-'], { input: await save(lab) }), 'nothing to change\n')
  const refused = await lab.xlb(['backend', 'set', service, '10.254.200.1', '--force'])
  t.is(refused.code, 1, 'one more is too many')
  t.regex(refused.stderr, /4,?000/)
})
