// SPDX-License-Identifier: Apache-2.0
// xlb capture with real traffic: its files as tshark reads them, and what it leaves behind, whatever ends it.
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import test, { type ExecutionContext } from 'ava'
import { hasRoot, Lab } from './lab.ts'
import { pinned, programsOf, tagsOf, useVersion } from './program.ts'
import { compileVariant } from './variant.ts'
import { ask, attach, backends, list, MODES, restore, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip
const CLI = fileURLToPath(new URL('../../dist/xlb.cjs', import.meta.url))

const begin = async (t: ExecutionContext, mode: (typeof MODES)[number] = 'native'): Promise<Lab> => {
  const lab = await Lab.up(t, { servers: 2 })
  t.timeout(300_000)
  await Promise.all([lab.http(1, 80), lab.http(2, 80), attach(lab, mode)])
  await restore(lab, [{ service: `tcp://${lab.vip}:80`, scheduler: 'rr', backends: backends(lab, 1, 1) }])
  return lab
}

const folder = (t: ExecutionContext): string => {
  const path = mkdtempSync(join(tmpdir(), 'xlb-capture-'))
  t.teardown(() => rmSync(path, { recursive: true }))
  return path
}

/** Starts a capture, and waits until it captures. */
const capturing = async (lab: Lab, ...args: string[]) => {
  const capture = lab.spawnXlb(['capture', ...args])
  await capture.waitFor(/^capturing on /m, 30_000)
  return capture
}

/** What tshark reads of a file: the wanted fields of each packet. */
const tshark = async (lab: Lab, file: string, ...fields: string[]): Promise<string[][]> => {
  const argv = ['tshark', '-r', file, '-T', 'fields', ...fields.flatMap((field) => ['-e', field])]
  const { code, stdout, stderr } = await lab.run('director', argv)
  if (code !== 0) throw new Error(`tshark: exit ${code}: ${stderr}`)
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => line.split('\t'))
}

/** Programs and pins, which a capture leaves as it found them. */
const stateOf = (lab: Lab) => ({ programs: programsOf(lab).map((program) => program?.id), pins: pinned(lab) })

for (const mode of MODES) {
  labTest(`${mode}: tshark reads frames as they came, with verdict, reason, backend and service`, async (t) => {
    const lab = await begin(t, mode)
    const before = stateOf(lab)
    const file = join(folder(t), 'x.pcapng')
    const startedMs = Date.now()
    const capture = await capturing(lab, '-w', file, '--service', `tcp://${lab.vip}:80`)
    t.deepEqual(await ask(lab, 2), ['rs1', 'rs2'])
    const { code, stderr } = await capture.stop('SIGINT')
    t.is(code, 0, stderr)
    t.regex(stderr, /^\d+ packets captured, 0 lost, of \d+ that came in$/m)
    t.deepEqual(stateOf(lab), before)

    const fields = ['frame.comment', 'eth.dst', 'ip.src', 'ip.dst', 'tcp.flags.syn', 'frame.interface_name'] as const
    const packets = await tshark(lab, file, ...fields, 'frame.time_epoch')
    t.true(packets.length >= 8, `${packets.length} packets`)
    const sent = (server: number, more = '') =>
      `xlb: tx, tx_forwarded, backend ${lab.host(`rs${server}`).address} of tcp://${lab.vip}:80${more}`
    const opened = packets.filter(([, , , , syn]) => syn === '1' || syn === 'True')
    t.deepEqual(
      opened.map(([comment]) => comment),
      [sent(1, ', flow_inserted'), sent(2, ', flow_inserted')],
    )
    for (const [comment, mac, source, destination, , name, time] of packets) {
      t.true(
        [sent(1), sent(2)].some((text) => comment?.startsWith(text)),
        comment,
      )
      t.deepEqual(
        [mac, source, destination, name],
        [lab.host('director').mac, lab.host('client').address, lab.vip, 'eth0'],
      )
      t.true(Number(time) * 1000 >= startedMs - 1 && Number(time) * 1000 <= Date.now() + 1, `time ${time}`)
    }
    t.is(statSync(file).mode & 0o777, 0o600)
  })

  labTest(`${mode}: requests are answered while captures begin and end`, async (t) => {
    const lab = await begin(t, mode)
    const before = stateOf(lab)
    let captures = 0
    const answers: string[] = []
    const asked = (async () => {
      while (captures < 4) answers.push(...(await ask(lab, 20)))
    })()
    for (; captures < 4; captures++) {
      const { code, stderr } = await lab.xlb(['capture', '--seconds', '1', '-w', '/dev/null'])
      t.is(code, 0, stderr)
    }
    await asked
    // In exact turns: not one packet went another way.
    t.deepEqual(
      answers,
      answers.map((_, i) => `rs${(i % 2) + 1}`),
    )
    t.true(answers.length >= 40)
    t.deepEqual(stateOf(lab), before)
    t.log(`${answers.length} requests`)
  })
}

labTest('drops are told with their reason, and lines end with the count', async (t) => {
  const lab = await begin(t)
  await restore(lab, [{ service: `tcp://${lab.vip}:80`, scheduler: 'rr', backends: backends(lab, 0, 0) }])
  const capture = await capturing(lab, '--verdict', 'drop', '-c', '1')
  t.is((await lab.curl('--max-time', '0.5', `http://${lab.vip}/`)).code, 28)
  const { code, stdout } = await capture.ended
  t.is(code, 0)
  const client = lab.host('client').address.replaceAll('.', '\\.')
  t.regex(
    stdout,
    new RegExp(
      `^\\d\\d:\\d\\d:\\d\\d\\.\\d{6} eth0 tcp ${client}:\\d+ > ${lab.vip}:80 \\[S\\] \\d+ octets: drop, drop_no_backend, tcp://${lab.vip}:80\n$`,
    ),
  )
})

labTest('--json has an object a line, and what is for no service is told by its reason', async (t) => {
  const lab = await begin(t)
  const capture = lab.spawnXlb(['capture', '--json', '-c', '1', '--reason', 'pass_no_service'])
  // It says nothing where its output is for a program: it is asked until it has had a packet.
  while (capture.running) {
    await lab.curl(`http://${lab.vip}:81/`)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  const { code, stdout } = await capture.ended
  t.is(code, 0)
  t.like(JSON.parse(stdout), {
    interface: 'eth0',
    destination: `${lab.vip}:81`,
    verdict: 'pass',
    reason: 'pass_no_service',
    service: null,
    backend: null,
  })
})

labTest('-w - is for a pipe into tshark; and a reader that has had enough ends the capture', async (t) => {
  const lab = await begin(t)
  const before = stateOf(lab)
  const command = `"${process.execPath}" "${CLI}" --instance ${lab.instance()} capture -w - | tshark -l -r - -c 3 -T fields -e frame.comment`
  const pipe = lab.spawn('director', ['sh', '-c', command])
  await pipe.waitFor(/^capturing on eth0/m, 30_000)
  while (pipe.running) {
    await ask(lab, 1)
    await new Promise((resolve) => setTimeout(resolve, 100))
  }
  const { stdout } = await pipe.ended
  t.is(stdout.trim().split('\n').length, 3)
  for (const line of stdout.trim().split('\n')) t.regex(line, /^xlb: tx, tx_forwarded, backend /)
  t.deepEqual(stateOf(lab), before)
})

labTest('a killed capture lets packets go on as before, and the next verb puts the programs back', async (t) => {
  const lab = await begin(t)
  const before = stateOf(lab)
  const capture = await capturing(lab)
  t.notDeepEqual(stateOf(lab), before)
  await capture.stop('SIGKILL')
  t.deepEqual((await ask(lab, 4)).sort(), ['rs1', 'rs1', 'rs2', 'rs2'])
  t.deepEqual(
    programsOf(lab).map((program) => program?.name),
    ['xlb_capture'],
  )
  await list(lab)
  t.deepEqual(stateOf(lab), before)
})

labTest('a second capture is refused, other verbs work beside one, and names follow what they change', async (t) => {
  const lab = await begin(t)
  const capture = await capturing(lab)
  const { code, stderr } = await lab.xlb(['capture'])
  t.is(code, 1)
  t.regex(stderr, /another capture of instance .* runs/)
  await xlb(lab, ['service', 'add', `tcp://${lab.vip}:8080`, '--scheduler', 'rr'])
  await xlb(lab, ['backend', 'set', `tcp://${lab.vip}:8080`, lab.host('rs2').address])
  await lab.curl(`http://${lab.vip}:8080/`)
  await capture.waitFor(new RegExp(`backend ${lab.host('rs2').address} of tcp://${lab.vip}:8080, flow_inserted`))
  t.is((await capture.stop('SIGTERM')).code, 0)
})

labTest('several interfaces are told apart, each in its own mode', async (t) => {
  const lab = await begin(t)
  const shell = (host: string, command: string) => lab.run(host, ['sh', '-ec', command])
  await shell(
    'director',
    `ip link add name eth1 type veth peer name far; ip link set dev eth1 up; ip link set dev far netns ${lab.prefix}-client`,
  )
  await shell('client', 'ip address add 198.51.100.1/24 dev far; ip link set dev far up')
  await xlb(lab, ['attach', 'eth1', '--mode', 'generic'])
  const before = stateOf(lab)
  const file = join(folder(t), 'x.pcapng')
  const capture = await capturing(lab, '-w', file, '--all')
  await ask(lab, 1)
  // It asks by ARP for one that is not there.
  await lab.curl('--max-time', '1', 'http://198.51.100.2/')
  t.is((await capture.stop('SIGINT')).code, 0)
  t.deepEqual(stateOf(lab), before)
  const packets = await tshark(lab, file, 'frame.interface_name', 'frame.comment')
  t.true(packets.some(([name, comment]) => name === 'eth0' && comment?.startsWith('xlb: tx, ') === true))
  t.true(packets.some(([name, comment]) => name === 'eth1' && comment === 'xlb: pass, pass_other_mac'))
})

labTest('an upgrade during a capture has its way: the capture says so and ends', async (t) => {
  const lab = await begin(t)
  const capture = await capturing(lab)
  const version = useVersion(lab, compileVariant(1))
  t.teardown(version.close)
  const upgraded = tagsOf(lab)
  const { code, stderr } = await capture.ended
  t.is(code, 1)
  t.regex(stderr, /eth0 has another program now/)
  t.deepEqual(tagsOf(lab), upgraded, 'what the upgrade put there stays')
  t.false(pinned(lab).some((name) => name.startsWith('capture')))

  const refused = await lab.xlb(['capture'])
  t.is(refused.code, 1)
  t.regex(refused.stderr, /eth0 has the program of another build of xlb/)
  t.deepEqual(tagsOf(lab), upgraded)
})

labTest('detach ends what was captured there', async (t) => {
  const lab = await begin(t)
  const capture = await capturing(lab)
  await xlb(lab, ['detach', '--all'])
  const { code, stderr } = await capture.ended
  t.is(code, 1, stderr)
  t.regex(stderr, /no interface is left/)
})
