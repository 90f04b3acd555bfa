// SPDX-License-Identifier: Apache-2.0
// Jumbo frames: an MTU of 9000 on every link, and a client that sends much to a real server.
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { hasRoot, Lab } from './lab.ts'
import { useVersion } from './program.ts'
import { compileVariant } from './variant.ts'
import { backends, list, on, restore, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip
const PASS = fileURLToPath(new URL('../../build/bpf/pass.bpf.o', import.meta.url))

const MTU = 9000
const BYTES = 10_000_000

/** Answers each connection with how many octets it has brought, once it ends. */
const SINK = `
  require('net').createServer({ allowHalfOpen: true }, (socket) => {
    let count = 0
    socket.on('data', ({ length }) => { count += length }).on('end', () => socket.end(String(count)))
  }).listen(80, () => console.log('listening 80'))`
const SOURCE = (address: string): string => `
  const socket = require('net').connect(80, '${address}', () => socket.end(Buffer.alloc(${BYTES}, 'j')))
  socket.pipe(process.stdout)`

const jumboLab = async (t: Parameters<typeof Lab.up>[0]): Promise<Lab> => {
  const lab = await Lab.up(t, { servers: 2 })
  await on(lab, 'switch', 'ip link set dev to-director xdpdrv off')
  for (const host of ['client', 'director', 'rs1', 'rs2']) {
    await on(lab, host, `ip link set dev eth0 mtu ${MTU}`)
    await on(lab, 'switch', `ip link set dev to-${host} mtu ${MTU}`)
  }
  await on(lab, 'switch', `ip link set dev to-director xdpdrv obj ${PASS} sec xdp.frags`)
  const sink = lab.spawn('rs1', [process.execPath, '-e', SINK])
  await sink.waitFor(/^listening/m)
  return lab
}

for (const mode of ['native', 'generic'] as const) {
  for (const scheduler of ['mh', 'rr'] as const) {
    labTest(
      `${mode}, ${scheduler}: a transfer in frames of ${MTU} octets arrives whole, and is counted whole`,
      async (t) => {
        const lab = await jumboLab(t)
        const attached = JSON.parse(
          await xlb(lab, ['attach', 'eth0', '--mode', mode, '--flows', '65536', '--json']),
        ) as { mode: string; warnings: { name: string }[] }
        t.is(attached.mode, mode)
        t.deepEqual(
          attached.warnings.filter(({ name }) => name === 'mtu'),
          [],
        )
        await restore(lab, [{ service: `tcp://${lab.vip}:80`, scheduler, backends: backends(lab, 1) }])
        const { stdout, stderr } = await lab.run('client', [process.execPath, '-e', SOURCE(lab.vip)])
        t.is(stdout, String(BYTES), stderr)
        const { services, reasons } = await list(lab)
        const counts = services[0]?.backends[0]?.counts
        t.log(counts, reasons)
        t.true((counts?.bytes ?? 0) > BYTES)
        // Of segments of 8,948 octets and more: fewer frames than any of 1,500 would have been.
        t.true((counts?.bytes ?? 0) / (counts?.packets ?? 1) > 1600)
        t.is(reasons.drop_malformed, 0)
        t.regex(await xlb(lab, ['upgrade', '--check']), /^eth0: has this build's program/m)
      },
    )
  }
}

labTest('a program that takes jumbo frames is replaced by one that does too', async (t) => {
  const lab = await jumboLab(t)
  await xlb(lab, ['attach', 'eth0', '--mode', 'native', '--flows', '65536'])
  await restore(lab, [{ service: `tcp://${lab.vip}:80`, scheduler: 'rr', backends: backends(lab, 1) }])
  useVersion(lab, compileVariant(1)).close()
  const transfer = () => lab.run('client', [process.execPath, '-e', SOURCE(lab.vip)])
  t.is((await transfer()).stdout, String(BYTES))
  t.regex(await xlb(lab, ['upgrade']), /^eth0: replaced /)
  t.is((await transfer()).stdout, String(BYTES))
})

labTest('auto takes native mode with jumbo frames too', async (t) => {
  const lab = await jumboLab(t)
  t.regex(await xlb(lab, ['attach', 'eth0', '--flows', '65536']), /^attached to eth0 in native mode/)
})
