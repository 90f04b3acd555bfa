// SPDX-License-Identifier: Apache-2.0
// Where xlb attaches itself, where it refuses, and what is left when it goes.
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import test from 'ava'
import { hasRoot, Lab } from './lab.ts'
import { remakeEth0 } from './remake.ts'
import { ask, attach, backends, list, MODES, on, restore, save, until, xlb } from './xlb.ts'

const labTest = hasRoot() ? test.serial : test.serial.skip
const PASS = fileURLToPath(new URL('../../build/bpf/pass.bpf.o', import.meta.url))
const CLI = fileURLToPath(new URL('../../dist/xlb.cjs', import.meta.url))

interface Link {
  ifname: string
  xdp?: { mode: number; prog: { name: string } }
}

/** The XDP program of an interface: 1 native, 2 generic (IFLA_XDP_ATTACHED), and its name; undefined: none. */
const xdpOf = async (lab: Lab, name = 'eth0'): Promise<{ mode: number; name: string } | undefined> => {
  const [link] = JSON.parse(await on(lab, 'director', `ip -j -d link show dev ${name}`)) as Link[]
  return link?.xdp && { mode: link.xdp.mode, name: link.xdp.prog.name }
}

/** Neighbours that the director's kernel keeps resolved for xlb. */
const managed = async (lab: Lab): Promise<string[]> =>
  (await on(lab, 'director', 'ip neighbour show')).split('\n').filter((line) => line.includes('managed'))

const traces = (instance: string): string[] =>
  ['', '~building', '~leaving']
    .map((end) => `/sys/fs/bpf/xlb/${instance}${end}`)
    .concat(`/run/xlb/${instance}`)
    .filter((path) => existsSync(path))

const web = (lab: Lab, ...weights: number[]) => [
  { service: `tcp://${lab.vip}:80`, scheduler: 'rr', backends: backends(lab, ...weights) },
]

for (const [i, mode] of MODES.entries()) {
  labTest(`attach --mode ${mode} attaches in that mode, and detach leaves nothing`, async (t) => {
    const lab = await Lab.up(t, { servers: 2 })
    await attach(lab, mode)
    t.deepEqual(await xdpOf(lab), { mode: i + 1, name: 'xlb' })
    t.deepEqual((await list(lab)).interfaces, [{ name: 'eth0', mode, attached: true, fault: null }])
    await restore(lab, web(lab, 1, 1))
    t.is((await managed(lab)).length, 2)
    const ended = JSON.parse(await xlb(lab, ['detach', 'eth0', '--json'])) as { interfaces: string[]; services: number }
    t.deepEqual([ended.interfaces, ended.services], [['eth0'], 1])
    t.deepEqual(traces(lab.instance()), [])
    t.is(await xdpOf(lab), undefined)
    t.deepEqual(await managed(lab), [])
    const again = await lab.xlb(['detach', 'eth0'])
    t.is(again.code, 1)
    t.regex(again.stderr, /xlb is not attached to eth0/)
    t.deepEqual(traces(lab.instance()), [])
  })
}

labTest('auto takes native where the veth peer has a program, else generic, and says why', async (t) => {
  const lab = await Lab.up(t, { servers: 1 })
  const native = await xlb(lab, ['attach', 'eth0', '--json', '--flows', '65536'])
  t.is((JSON.parse(native) as { mode: string }).mode, 'native')
  await xlb(lab, ['detach', '--all'])
  await on(lab, 'switch', 'ip link set dev to-director xdpdrv off')
  const { code, stdout, stderr } = await lab.xlb(['attach', 'eth0', '--flows', '65536'])
  t.is(code, 0)
  t.regex(stdout, /generic mode, since the veth peer to-director has no XDP program/)
  t.regex(stderr, /warning: .*to-director.* has no native XDP program/)
  t.regex(stderr, /ip link set dev to-director xdpdrv obj .*pass\.bpf\.o sec xdp/)
  t.deepEqual(await xdpOf(lab), { mode: 2, name: 'xlb' })
  await Promise.all([lab.http(1, 80), restore(lab, web(lab, 1))])
  t.deepEqual(await ask(lab, 2), ['rs1', 'rs1'])
})

labTest('an interface is attached once, and capacities are fixed with the first', async (t) => {
  const lab = await Lab.up(t, { servers: 1 })
  await attach(lab)
  await restore(lab, web(lab, 1))
  const before = await save(lab)
  const twice = await lab.xlb(['attach', 'eth0', '--mode', 'generic'])
  t.is(twice.code, 1)
  t.regex(twice.stderr, /xlb is attached to eth0 already \(native mode\)/)
  t.regex(twice.stderr, /xlb detach eth0/)
  const wider = await lab.xlb(['attach', 'lo', '--services', '5'])
  t.is(wider.code, 1)
  t.is(await save(lab), before)
  t.deepEqual(await xdpOf(lab), { mode: 1, name: 'xlb' })
})

labTest('another XDP program on the interface is named and left alone', async (t) => {
  const lab = await Lab.up(t, { servers: 0 })
  await on(lab, 'director', `ip link set dev eth0 xdpdrv obj ${PASS} sec xdp`)
  const { code, stderr, stdout } = await lab.xlb(['attach', 'eth0'])
  t.is(code, 1)
  t.is(stdout, '')
  t.regex(stderr, /eth0 has another XDP program already: id \d+, xlb_pass, native mode/)
  t.regex(stderr, /ip link set dev eth0 xdpdrv off/)
  t.deepEqual(await xdpOf(lab), { mode: 1, name: 'xlb_pass' })
  t.deepEqual(traces(lab.instance()), [])
})

labTest('an attached interface cannot be detached while backends are reached through it', async (t) => {
  const lab = await Lab.up(t, { servers: 2 })
  await Promise.all([lab.http(1, 80), lab.http(2, 80), attach(lab)])
  const service = `tcp://${lab.vip}:80`
  const far = '10.90.0.22'
  await on(lab, 'director', `ip link add name eth1 type veth peer name eth1 netns ${lab.prefix}-rs2`)
  await on(lab, 'rs2', `ip address add ${far}/24 dev eth1; ip link set dev eth1 up`)
  await on(lab, 'rs2', `ip link set dev eth1 xdpdrv obj ${PASS} sec xdp`)
  await on(lab, 'director', 'ip address add 10.90.0.2/24 dev eth1; ip link set dev eth1 up')
  await restore(lab, web(lab, 1))
  await xlb(lab, ['attach', 'eth1'])
  await xlb(lab, ['backend', 'set', service, far])
  t.deepEqual([...new Set(await ask(lab, 8))].sort(), ['rs1', 'rs2'])
  t.true(((await list(lab)).reasons.tx_redirected ?? 0) > 0)

  const refused = await lab.xlb(['detach', 'eth1'])
  t.is(refused.code, 1)
  t.regex(refused.stderr, /eth1: 1 backends are reached through it \(10\.90\.0\.22\)/)
  await xlb(lab, ['backend', 'rm', service, far])
  await xlb(lab, ['detach', 'eth1'])
  t.is(await xdpOf(lab, 'eth1'), undefined)
  t.deepEqual(await ask(lab, 4), ['rs1', 'rs1', 'rs1', 'rs1'])
  t.deepEqual(
    (await list(lab)).interfaces.map(({ name }) => name),
    ['eth0'],
  )
})

labTest(
  'an interface that was deleted and made again is said to be unattached, and can be attached again',
  async (t) => {
    const lab = await Lab.up(t, { servers: 2 })
    await Promise.all([lab.http(1, 80), lab.http(2, 80), attach(lab)])
    await restore(lab, web(lab, 1, 1))
    const before = await save(lab)
    await on(lab, 'director', 'ip link del dev eth0')
    t.deepEqual((await list(lab)).interfaces, [
      { name: 'eth0', mode: 'native', attached: false, fault: 'eth0 was deleted' },
    ])
    await remakeEth0(lab)
    t.regex(await xlb(lab, ['list']), /eth0: NOT ATTACHED: eth0 was deleted and made again.*xlb attach eth0/)
    await xlb(lab, ['attach', 'eth0', '--mode', 'native'])
    t.is(await save(lab), before, 'the services are what they were')
    t.deepEqual((await list(lab)).interfaces, [{ name: 'eth0', mode: 'native', attached: true, fault: null }])
    t.deepEqual([...new Set(await ask(lab, 4))].sort(), ['rs1', 'rs2'])
    // The neighbours went with the old interface. Without them another MAC of a backend would never be noticed.
    const [rs1 = { address: '' }] = backends(lab, 1)
    await xlb(lab, ['backend', 'set', `tcp://${lab.vip}:80`, rs1.address, '--weight', '2'])
    t.is((await managed(lab)).length, 2, 'the next verb has the kernel keep all backends resolved again')
  },
)

labTest('a link that was detached from outside is said to be so, and can be attached again', async (t) => {
  const lab = await Lab.up(t, { servers: 1 })
  await Promise.all([lab.http(1, 80), attach(lab)])
  await restore(lab, web(lab, 1))
  const folder = `/sys/fs/bpf/xlb/${lab.prefix}/links`
  await on(lab, 'director', `bpftool link detach pinned ${folder}/$(ls ${folder})`)
  t.is((await list(lab)).interfaces[0]?.attached, false)
  await xlb(lab, ['attach', 'eth0', '--mode', 'native'])
  t.deepEqual(await ask(lab, 2), ['rs1', 'rs1'])
})

labTest('what a killed attach has left is cleared away by the next one', async (t) => {
  const lab = await Lab.up(t, { servers: 0 })
  const left = `/sys/fs/bpf/xlb/${lab.prefix}~building`
  await on(lab, 'director', `mkdir -p ${left}/maps ${left}/links`)
  await on(lab, 'director', `bpftool map create ${left}/maps/root type array key 4 value 96 entries 1 name root`)
  const unattached = await lab.xlb(['list'])
  t.is(unattached.code, 1)
  t.regex(unattached.stderr, /is not attached to any interface/)
  await attach(lab)
  t.false(existsSync(left))
  t.deepEqual((await list(lab)).services, [])
})

labTest('what a killed detach has left is cleared away by the next verb, and so are its neighbours', async (t) => {
  const lab = await Lab.up(t, { servers: 2 })
  await attach(lab)
  await restore(lab, web(lab, 1, 1))
  // Killed right after the one step that ends an instance.
  await on(lab, 'director', `mv /sys/fs/bpf/xlb/${lab.prefix} /sys/fs/bpf/xlb/${lab.prefix}~leaving`)
  await xlb(lab, ['detach', '--all'])
  t.deepEqual(traces(lab.instance()), [])
  await until('eth0 has no XDP program', async () => (await xdpOf(lab)) === undefined)
  t.deepEqual(await managed(lab), [])
})

labTest('where bpffs is not mounted, attach mounts it', async (t) => {
  const lab = await Lab.up(t, { servers: 0 })
  const xlbHere = `${process.execPath} ${CLI} --instance ${lab.prefix}`
  // A mount namespace of its own, whose end takes the pins with it.
  const script = [
    'while umount -t bpf /sys/fs/bpf 2>/dev/null; do :; done',
    'test "$(stat -f -c %T /sys/fs/bpf)" != bpf_fs',
    `${xlbHere} attach eth0 --flows 65536`,
    'stat -f -c %T /sys/fs/bpf',
    `${xlbHere} list`,
  ].join('\n')
  const { code, stdout, stderr } = await lab.run('director', ['unshare', '--mount', 'sh', '-ec', script])
  t.is(code, 0, stderr)
  t.regex(stdout, /^attached to eth0 in native mode/m)
  t.regex(stdout, /^bpf_fs$/m)
  t.regex(stdout, /^eth0: attached, native mode$/m)
  t.false(existsSync(`/sys/fs/bpf/xlb/${lab.prefix}`), 'it was another bpffs than this one')
  await until('the program ends with its pins', async () => (await xdpOf(lab)) === undefined)
})
