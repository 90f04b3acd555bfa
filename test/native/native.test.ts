// SPDX-License-Identifier: Apache-2.0
// Handles of all kinds, programs that run, links, netlink, and what the addon asks of the system.
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { uptime } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import test from 'ava'
import {
  bpfFileSystem,
  compileFixture,
  failureOf,
  fixturePath,
  loadFixture,
  makeVeth,
  native,
  openFixture,
  run,
  temporaryDirectory,
  u32,
} from './setup.ts'

const XDP_DROP = 1
const XDP_PASS = 2
const XDP_TX = 3
const frame = Buffer.alloc(60, 0x11)

test.before(compileFixture)

test('a closed handle throws EBADF, and closes again in silence', (t) => {
  const object = openFixture(t)
  object.load()
  const map = object.map('table')
  const program = object.program('answer')
  for (const handle of [map, program, object, map, program, object]) handle.close()
  const uses = [
    () => map.lookup(u32(1)),
    () => map.info,
    () => map.lookupBatch(),
    () => map.mmap(),
    () => program.info,
    () => program.run({ data: frame }),
    () => object.mapNames,
    () => object.load(),
  ]
  for (const use of uses) t.is(failureOf(t, use).code, 'EBADF')
})

test('an argument of the wrong type throws a TypeError', (t) => {
  const object = loadFixture(t)
  const map = object.map('table')
  const program = object.program('answer')
  const wrong = (value: unknown): never => value as never
  const getter = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(map), 'info')?.get
  const Constructor = map.constructor as new (...args: unknown[]) => unknown
  const uses = [
    () => native.openObject(wrong(1)),
    () => native.openMap('a\0b'),
    () => map.lookup(wrong('key')),
    () => map.lookup(wrong(new Uint16Array(2))),
    () => map.update(u32(1), wrong(undefined)),
    () => map.lookup.call(wrong(program), u32(1)),
    () => getter?.call(program),
    () => new Constructor(3),
    () => native.attachXdp(wrong(map), 1, 'native'),
    () => native.attachXdp(program, 1, wrong('fast')),
    () => openFixture(t).reuseMap('table', wrong(program)),
    () => program.run(wrong(null)),
    () => program.run({ data: frame, repeat: wrong('1') }),
    () => native.netlink.route(wrong(undefined)),
    () => native.system.pinToCpu(wrong('0')),
  ]
  for (const use of uses) t.throws(use, { instanceOf: TypeError })
})

test('a map is reused where the layouts agree, and refused where they do not', (t) => {
  const first = loadFixture(t)
  const table = first.map('table')
  table.update(u32(5), u32(50, 0))
  const second = openFixture(t)
  t.is(failureOf(t, () => second.reuseMap('shared', table)).code, 'EINVAL')
  t.is(failureOf(t, () => second.reuseMap('nothing', table)).code, 'ENOENT')
  second.reuseMap('table', table)
  second.load()
  t.is(second.map('table').info.id, table.info.id)
  t.deepEqual(second.map('table').lookup(u32(5)), u32(50, 0))
})

test('pins in a bpffs reopen what they name, and nothing of another kind', (t) => {
  const pins = bpfFileSystem(t)
  t.true(native.system.isBpfFileSystem(pins))
  t.false(native.system.isBpfFileSystem('/proc'))
  const object = loadFixture(t)
  object.map('table').update(u32(3), u32(33, 0))
  object.map('table').pin(join(pins, 'table'))
  object.map('shared').pin(join(pins, 'shared'))
  object.program('answer').pin(join(pins, 'answer'))
  t.deepEqual(native.openMap(join(pins, 'table')).lookup(u32(3)), u32(33, 0))
  t.is(native.openProgram(join(pins, 'answer')).info.id, object.program('answer').info.id)
  t.is(failureOf(t, () => native.openMap(join(pins, 'answer'))).code, 'EINVAL')
  t.is(failureOf(t, () => native.openLink(join(pins, 'table'))).code, 'EINVAL')
  t.is(failureOf(t, () => object.map('table').pin(join(pins, 'table'))).code, 'EEXIST')
  native.system.exchange(join(pins, 'table'), join(pins, 'shared'))
  t.is(native.openMap(join(pins, 'shared')).info.name, 'table')
})

test('a run answers verdict, frame and context as the program left them', (t) => {
  const object = loadFixture(t)
  const context = u32(0, frame.length, 0, 1, 0, 0)
  const result = object.program('answer').run({ data: frame, context, repeat: 10 })
  t.is(result.returned, XDP_PASS)
  t.is(result.data[0], 0xaa)
  t.deepEqual(result.data.subarray(1), frame.subarray(1))
  t.is(result.context.readUInt32LE(4), frame.length)
  t.true(result.durationNs >= 0)
  const counts = object.map('per_cpu').lookup(u32(0)) ?? Buffer.alloc(0)
  t.is(
    new Uint32Array(Uint8Array.from(counts).buffer).reduce((sum, count) => sum + count),
    10,
  )
  t.is(frame[0], 0x11)
})

test('a run may make the frame longer', (t) => {
  const result = loadFixture(t).program('longer').run({ data: frame })
  t.is(result.returned, XDP_TX)
  t.is(result.data.length, frame.length + 20)
})

test('a syscall program answers its argument', (t) => {
  const result = loadFixture(t)
    .program('twice')
    .run({ context: u32(21) })
  t.is(result.returned, 7)
  t.deepEqual(result.context, u32(42))
})

test('live frames leave by their verdict and are not answered', (t) => {
  const object = openFixture(t)
  object.setConstant('verdict', u32(XDP_DROP))
  object.load()
  const result = object.program('answer').run({ data: frame, repeat: 1000, liveFrames: true, batchSize: 32 })
  t.is(result.data.length, 0)
  const counts = object.map('per_cpu').lookup(u32(0)) ?? Buffer.alloc(0)
  t.is(
    new Uint32Array(Uint8Array.from(counts).buffer).reduce((sum, count) => sum + count),
    1000,
  )
})

test('a program is found by its id, and an unknown id finds none', (t) => {
  const program = loadFixture(t).program('answer')
  t.deepEqual(native.programInfo(program.info.id), program.info)
  t.regex(program.info.tag, /^[0-9a-f]{16}$/)
  t.true(program.info.jitedBytes > 0)
  t.is(native.programInfo(0x7fffffff), undefined)
  const same = native.openProgramById(program.info.id)
  t.teardown(() => same.close())
  t.deepEqual(same.info, program.info)
  t.is(failureOf(t, () => native.openProgramById(0x7fffffff)).code, 'ENOENT')
  const ageSeconds = uptime() - Number(program.info.loadedNs) / 1e9
  t.true(ageSeconds > -1 && ageSeconds < 60, `loaded ${ageSeconds} s ago`)
})

for (const mode of ['native', 'generic'] as const) {
  test(`a ${mode} link attaches, is updated in place, and detaches on close`, (t) => {
    const veth = makeVeth(t)
    const object = loadFixture(t)
    const [answer, longer] = [object.program('answer'), object.program('longer')]
    const attached = () => native.netlink.interfaceByIndex(veth.ifindex, -1)
    const link = native.attachXdp(answer, veth.ifindex, mode)
    t.deepEqual([link.info.ifindex, link.info.programId], [veth.ifindex, answer.info.id])
    t.deepEqual([attached()?.xdpMode, attached()?.xdpProgramId], [mode, answer.info.id])
    const busy = failureOf(t, () => native.attachXdp(longer, veth.ifindex, mode))
    t.deepEqual([busy.code, busy.call, busy.object], ['EBUSY', 'bpf_link_create', veth.name])
    link.update(longer)
    t.is(attached()?.xdpProgramId, longer.info.id)
    link.close()
    t.is(attached()?.xdpMode, 'none')
    t.is(failureOf(t, () => link.info).code, 'EBADF')
  })
}

test('a pinned link outlives its handle until it is detached', (t) => {
  const pins = bpfFileSystem(t)
  const veth = makeVeth(t)
  const link = native.attachXdp(loadFixture(t).program('answer'), veth.ifindex, 'native')
  link.pin(join(pins, 'link'))
  link.close()
  t.is(native.netlink.interfaceByIndex(veth.ifindex, -1)?.xdpMode, 'native')
  const again = native.openLink(join(pins, 'link'))
  t.is(again.info.ifindex, veth.ifindex)
  again.detach()
  t.is(native.netlink.interfaceByIndex(veth.ifindex, -1)?.xdpMode, 'none')
  t.is(again.info.ifindex, 0)
})

test('a link whose interface is gone is defunct', (t) => {
  const veth = makeVeth(t)
  const program = loadFixture(t).program('answer')
  const link = native.attachXdp(program, veth.ifindex, 'native')
  veth.remove()
  t.is(link.info.ifindex, 0)
  t.is(failureOf(t, () => link.update(program)).code, 'ENOLINK')
  t.is(failureOf(t, () => native.attachXdp(program, veth.ifindex, 'native')).object, `interface ${veth.ifindex}`)
  t.is(native.netlink.interfaceByIndex(veth.ifindex, -1), undefined)
})

test('a driver without native XDP answers EOPNOTSUPP', (t) => {
  const error = failureOf(t, () => native.attachXdp(loadFixture(t).program('answer'), 1, 'native'))
  t.deepEqual([error.code, error.object], ['EOPNOTSUPP', 'lo'])
})

test('interfaces and addresses are what ip shows', (t) => {
  const veth = makeVeth(t)
  const read = native.netlink.interfaces()
  for (const name of ['lo', veth.name]) {
    const [shown] = JSON.parse(run('ip', '-j', '-d', 'link', 'show', name))
    t.like(
      read.find((one) => one.name === name),
      {
        ifindex: shown.ifindex,
        mac: shown.address,
        mtu: shown.mtu,
        up: shown.flags.includes('UP'),
        loopback: shown.flags.includes('LOOPBACK'),
        kind: shown.linkinfo?.info_kind ?? '',
        rxQueues: shown.num_rx_queues,
        txQueues: shown.num_tx_queues,
        link: shown.link_index ?? 0,
        linkNetnsId: shown.link_netnsid ?? -1,
        promiscuous: false,
        xdpMode: 'none',
      },
    )
  }
  t.true(
    native.netlink
      .addresses()
      .some((one) => one.ifindex === veth.ifindex && one.address === '198.51.100.1' && one.prefixLength === 24),
  )
})

test("a veth's far end is read in its own namespace", (t) => {
  const veth = makeVeth(t)
  const near = native.netlink.interfaceByIndex(veth.ifindex, -1)
  t.true((near?.linkNetnsId ?? -1) >= 0)
  const far = native.netlink.interfaceByIndex(near?.link ?? 0, near?.linkNetnsId ?? -1)
  t.like(far, { name: 'far', mac: veth.peerMac, link: veth.ifindex, kind: 'veth' })
  t.is(failureOf(t, () => native.netlink.interfaceByIndex(1, 4_000_000)).code, 'EINVAL')
})

test("a bridge's port is promiscuous though nobody set IFF_PROMISC", (t) => {
  const veth = makeVeth(t)
  const bridge = `${veth.name}b`
  run('ip', 'link', 'add', bridge, 'type', 'bridge')
  t.teardown(() => run('ip', 'link', 'del', bridge))
  run('ip', 'link', 'set', veth.name, 'master', bridge)
  const port = native.netlink.interfaceByIndex(veth.ifindex, -1)
  const master = native.netlink.interfaces().find((one) => one.name === bridge)
  t.like(port, { promiscuous: true, master: master?.ifindex ?? -1 })
})

test('a route names type, interface, gateway and source', (t) => {
  const veth = makeVeth(t)
  run('ip', 'route', 'add', '203.0.113.0/24', 'via', '198.51.100.2', 'dev', veth.name)
  run('ip', 'route', 'add', 'unreachable', '203.0.113.99')
  t.teardown(() => run('ip', 'route', 'del', 'unreachable', '203.0.113.99'))
  t.deepEqual(native.netlink.route('203.0.113.1'), {
    type: 'unicast',
    ifindex: veth.ifindex,
    gateway: '198.51.100.2',
    source: '198.51.100.1',
  })
  t.like(native.netlink.route('198.51.100.2'), { type: 'unicast', gateway: '' })
  t.like(native.netlink.route('198.51.100.1'), { type: 'local' })
  t.like(native.netlink.route('::1'), { type: 'local', ifindex: 1 })
  t.is(failureOf(t, () => native.netlink.route('203.0.113.99')).code, 'EHOSTUNREACH')
  t.is(failureOf(t, () => native.netlink.route('198.51.100.256')).code, 'EINVAL')
})

test('a managed neighbour is resolved by the kernel, and deleted once', async (t) => {
  const veth = makeVeth(t)
  native.netlink.manageNeighbour(veth.ifindex, '198.51.100.2')
  native.netlink.manageNeighbour(veth.ifindex, '198.51.100.2')
  const find = () => native.netlink.neighbours(2).find((one) => one.ifindex === veth.ifindex)
  for (let i = 0; i < 100 && find()?.mac === ''; i++) await setTimeout(20)
  t.like(find(), { address: '198.51.100.2', mac: veth.peerMac, managed: true })
  t.true(native.netlink.deleteNeighbour(veth.ifindex, '198.51.100.2'))
  t.false(native.netlink.deleteNeighbour(veth.ifindex, '198.51.100.2'))
  const error = failureOf(t, () => native.netlink.manageNeighbour(veth.ifindex, '10.0.0'))
  t.deepEqual([error.code, error.object], ['EINVAL', '10.0.0'])
})

test('a lock excludes until it is given back', (t) => {
  const path = join(temporaryDirectory(t), 'lock')
  const held = native.system.tryLock(path)
  t.true(held >= 0)
  t.is(native.system.tryLock(path), -1)
  native.system.unlock(held)
  const again = native.system.tryLock(path)
  t.true(again >= 0)
  native.system.unlock(again)
  t.is(failureOf(t, () => native.system.unlock(0)).code, 'EBADF')
  t.true(existsSync('/proc/self/fd/0'))
})

test('a device tells its driver, features and channels as ethtool does', (t) => {
  const veth = makeVeth(t)
  t.is(native.system.deviceDriver(veth.name), 'veth')
  const current = run('ethtool', '-l', veth.name).split('Current hardware settings:')[1] ?? ''
  const channels = [...current.matchAll(/^(?:RX|Combined):\s+(\d+)/gm)].reduce(
    (sum, match) => sum + Number(match[1]),
    0,
  )
  t.true(channels > 0)
  t.is(native.system.deviceReceiveChannels(veth.name), channels)
  t.is(native.system.deviceReceiveChannels('lo'), 0)
  run('ethtool', '-K', veth.name, 'gro', 'on')
  t.true(native.system.deviceFeatures(veth.name)['rx-gro'])
  run('ethtool', '-K', veth.name, 'gro', 'off')
  t.false(native.system.deviceFeatures(veth.name)['rx-gro'])
  const error = failureOf(t, () => native.system.deviceFeatures('nosuchdevice'))
  t.deepEqual([error.code, error.object], ['ENODEV', 'nosuchdevice'])
})

test('this thread runs on the CPU that it is pinned to until that is lifted', (t) => {
  const allowed = () => /Cpus_allowed_list:\s*(\S+)/.exec(readFileSync('/proc/thread-self/status', 'utf8'))?.[1]
  const before = allowed()
  native.system.pinToCpu(0)
  t.is(allowed(), '0')
  native.system.pinToCpu(-1)
  t.is(allowed(), before)
  t.is(failureOf(t, () => native.system.pinToCpu(5000)).code, 'EINVAL')
})

test('waiting for programs returns, and a jiffy has a known length', (t) => {
  t.notThrows(() => native.system.waitForPrograms())
  t.true([100, 250, 300, 1000].includes(native.system.jiffiesPerSecond()))
})

test('a worker thread has handles of its own, and gives them back when it ends', async (t) => {
  const source = `
    const { parentPort, workerData } = require('node:worker_threads')
    const native = require(workerData.addon)
    const object = native.openObject(workerData.fixture)
    object.setAutoload('refused', false)
    object.load()
    const map = object.map('shared')
    new Uint32Array(map.mmap())[0] = 1
    parentPort.postMessage({ open: native.openHandles(), id: map.info.id })`
  const addon = fileURLToPath(new URL('../../build/native/xlb.node', import.meta.url))
  const worker = new Worker(source, { eval: true, workerData: { addon, fixture: fixturePath }, execArgv: [] })
  const ended = new Promise((resolve) => worker.once('exit', resolve))
  const { open, id } = await new Promise<{ open: object; id: number }>((resolve, reject) => {
    worker.once('message', resolve).once('error', reject)
  })
  t.like(open, { objects: 1, maps: 1, programs: 0, links: 0, mappings: 1 })
  t.is(await ended, 0)
  const exists = () => spawnSync('bpftool', ['map', 'show', 'id', String(id)]).status === 0
  for (let i = 0; i < 100 && exists(); i++) await setTimeout(20)
  t.false(exists()) // Nothing holds the map any more, neither a descriptor nor a mapping.
})

test('what is opened, mapped and closed 2,000 times leaves nothing behind', (t) => {
  const pins = bpfFileSystem(t)
  const object = loadFixture(t)
  for (const name of ['shared', 'table', 'ring']) object.map(name).pin(join(pins, name))
  for (const name of ['answer', 'tell']) object.program(name).pin(join(pins, name))
  const script = fileURLToPath(new URL('leak.ts', import.meta.url))
  const args = ['--expose-gc', '--import=tsx', script, fixturePath, pins, '2000', `${makeVeth(t).ifindex}`]
  const { before, after, open } = JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8' }))
  t.deepEqual(open, {
    objects: 0,
    maps: 0,
    programs: 0,
    links: 0,
    rings: 0,
    monitors: 0,
    rawSockets: 0,
    mappings: 0,
    mappedBytes: 0,
  })
  t.deepEqual(after.descriptors.sort(), before.descriptors.sort())
  t.is(after.mappings, before.mappings)
  t.true(after.residentBytes - before.residentBytes < 8 * 2 ** 20, `${after.residentBytes} of ${before.residentBytes}`)
  t.log(`${Math.round((after.residentBytes - before.residentBytes) / 1024)} KiB more`)
})
