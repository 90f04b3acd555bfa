// SPDX-License-Identifier: Apache-2.0
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { uptime } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import test from 'ava'
import type { BpfObject } from '../../src/dataplane/native.ts'
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

test('an object names its maps and programs before it is loaded', (t) => {
  const object = openFixture(t)
  t.true(['shared', 'per_cpu', 'table'].every((name) => object.mapNames.includes(name)))
  t.deepEqual([...object.programNames].sort(), ['answer', 'longer', 'placeholders', 'refused', 'twice'])
})

test('a constant is what was set before load, else what the source says', (t) => {
  const plain = loadFixture(t).program('answer')
  t.is(plain.run({ data: frame }).returned, XDP_PASS)
  const object = openFixture(t)
  object.setConstant('verdict', u32(XDP_TX))
  object.load()
  t.is(object.program('answer').run({ data: frame }).returned, XDP_TX)
})

test('a constant of an unknown name, of another size, or set after load is refused', (t) => {
  const object = openFixture(t)
  t.is(failureOf(t, () => object.setConstant('nothing', u32(1))).code, 'ENOENT')
  t.is(failureOf(t, () => object.setConstant('verdict', Buffer.alloc(8))).code, 'EINVAL')
  object.load()
  t.is(failureOf(t, () => object.setConstant('verdict', u32(1))).code, 'EBUSY')
})

const PLACEHOLDER = { small: 0x5eed0001, mask: 0x5eed0002, wide: 0x5eed0003 }

const runPlaceholders = (object: BpfObject): bigint[] => {
  const context = Buffer.alloc(24, 0xff)
  const { context: filled } = object.program('placeholders').run({ context })
  return [0, 8, 16].map((at) => filled.readBigUInt64LE(at))
}

test('a placeholder is filled in the instructions, those of subprograms included; what was not given stays', (t) => {
  const wide = BigInt(PLACEHOLDER.wide)
  t.deepEqual(runPlaceholders(loadFixture(t)), [BigInt(PLACEHOLDER.small), BigInt(PLACEHOLDER.mask), wide])
  const object = openFixture(t)
  object.fillPlaceholder(PLACEHOLDER.small, 7n)
  object.fillPlaceholder(PLACEHOLDER.mask, 0xffn)
  object.fillPlaceholder(PLACEHOLDER.wide, 0xfedcba9876543210n)
  object.load()
  t.deepEqual(runPlaceholders(object), [7n, 0xffn, 0xfedcba9876543210n])
  t.deepEqual(runPlaceholders(loadFixture(t)), [BigInt(PLACEHOLDER.small), BigInt(PLACEHOLDER.mask), wide])
})

test('a placeholder after load, or a value that is not 64 bits, is refused', (t) => {
  const object = openFixture(t)
  t.throws(() => object.fillPlaceholder(1, 2n ** 64n), { message: /value.*BigInt of 64 bits/ })
  t.throws(() => object.fillPlaceholder(1, 7 as never), { message: /value.*BigInt of 64 bits/ })
  object.load()
  t.is(failureOf(t, () => object.fillPlaceholder(1, 1n)).code, 'EBUSY')
})

test("the verifier's log reaches the caller", (t) => {
  const object = openFixture(t)
  object.setAutoload('refused', true)
  const error = failureOf(t, () => object.load())
  t.is(error.code, 'EACCES')
  t.is(error.call, 'bpf_object__load')
  t.is(error.object, fixturePath)
  t.regex(error.verifierLog ?? '', /invalid access to packet/)
})

test('an error names errno, the call and what it was applied to', (t) => {
  const error = failureOf(t, () => native.openObject('/nonexistent/x.o'))
  t.is(error.message, 'bpf_object__open_file /nonexistent/x.o: ENOENT: No such file or directory')
  t.is(error.code, 'ENOENT')
  t.is(error.errno, 2)
  t.is(error.call, 'bpf_object__open_file')
  t.is(error.object, '/nonexistent/x.o')
})

test('a file that is no BPF object is refused with what libbpf says of it', (t) => {
  const path = join(temporaryDirectory(t), 'x.o')
  writeFileSync(path, 'not an ELF file')
  const error = failureOf(t, () => native.openObject(path))
  t.is(error.code, 'LIBBPF_ERRNO__FORMAT')
  t.regex(error.verifierLog ?? '', /not a valid ELF|not a proper/)
})

test('a map looks up, updates by flag and deletes', (t) => {
  const table = loadFixture(t).map('table')
  t.is(table.lookup(u32(1)), undefined)
  table.update(u32(1), u32(7, 0))
  t.deepEqual(table.lookup(u32(1)), u32(7, 0))
  t.is(failureOf(t, () => table.update(u32(1), u32(8, 0), 1)).code, 'EEXIST')
  t.is(failureOf(t, () => table.update(u32(2), u32(8, 0), 2)).code, 'ENOENT')
  t.true(table.delete(u32(1)))
  t.false(table.delete(u32(1)))
})

test('a map tells its layout', (t) => {
  const { id, ...layout } = loadFixture(t).map('shared').info
  t.true(id > 0)
  t.deepEqual(layout, { name: 'shared', type: 2, keySize: 4, valueSize: 12, maxEntries: 100, flags: 1 << 10 })
})

test('a per-CPU value is one 8-byte slot per possible CPU', (t) => {
  const perCpu = loadFixture(t).map('per_cpu')
  const value = Buffer.alloc(8 * native.system.possibleCpus())
  for (let cpu = 0; cpu < native.system.possibleCpus(); cpu++) value.writeUInt32LE(cpu + 1, 8 * cpu)
  perCpu.update(u32(2), value)
  t.deepEqual(perCpu.lookup(u32(2)), value)
  const all = perCpu.lookupBatch()
  t.is(all.count, 4)
  t.deepEqual(all.values.subarray(2 * value.length, 3 * value.length), value)
})

test('a batch covers the whole map, however many calls that takes', (t) => {
  const object = openFixture(t)
  const count = 40_000
  object.setMaxEntries('table', count)
  object.load()
  const table = object.map('table')
  t.deepEqual(table.lookupBatch(), { count: 0, keys: Buffer.alloc(0), values: Buffer.alloc(0) })
  const keys = Uint32Array.from({ length: count }, (_, i) => i)
  const values = BigUint64Array.from({ length: count }, (_, i) => BigInt(i) * 3n)
  table.updateBatch(Buffer.from(keys.buffer), Buffer.from(values.buffer), count)
  const all = table.lookupBatch()
  t.is(all.count, count)
  const seen = new Set<number>()
  for (let i = 0; i < count; i++) {
    const key = all.keys.readUInt32LE(4 * i)
    seen.add(key)
    if (all.values.readBigUInt64LE(8 * i) !== BigInt(key) * 3n) t.fail(`key ${key} has another's value`)
  }
  t.is(seen.size, count)
  t.is(failureOf(t, () => table.updateBatch(u32(count + 1), u32(0, 0), 1)).code, 'E2BIG')
})

test('a key, value or batch of another size than the map is refused before the kernel reads it', (t) => {
  const table = loadFixture(t).map('table')
  t.is(failureOf(t, () => table.lookup(Buffer.alloc(3))).code, 'EINVAL')
  t.is(failureOf(t, () => table.update(u32(1), u32(1))).code, 'EINVAL')
  t.is(failureOf(t, () => table.updateBatch(u32(1, 2), u32(1, 0), 2)).code, 'EINVAL')
  t.regex(failureOf(t, () => table.lookup(Buffer.alloc(3))).message, /key: 3 bytes, not 4/)
})

test('mapped memory, look-ups and the program see the same elements', (t) => {
  const object = loadFixture(t)
  const shared = object.map('shared')
  const memory = shared.mmap()
  t.is(memory.byteLength, 16 * 100)
  t.is(shared.mmap(), memory)
  const words = new Uint32Array(memory)
  words.set([1, 2, 3], 4 * 9)
  t.deepEqual(shared.lookup(u32(9)), u32(1, 2, 3))
  shared.update(u32(9), u32(4, 5, 6))
  t.deepEqual([...words.subarray(36, 39)], [4, 5, 6])
  object.program('answer').run({ data: frame })
  t.is(words[2], 0xfeed)
})

test('unmap detaches the buffer, and the map can be mapped anew', (t) => {
  const shared = loadFixture(t).map('shared')
  const before = native.openHandles().mappings
  const memory = shared.mmap()
  const words = new Uint32Array(memory)
  words[0] = 77
  shared.unmap()
  shared.unmap()
  t.is(memory.byteLength, 0)
  t.is(words.length, 0)
  t.is(native.openHandles().mappings, before)
  const again = shared.mmap()
  t.not(again, memory)
  t.is(new Uint32Array(again)[0], 77)
  shared.unmap()
})

/** An array of elements of 64 octets. */
const makeMappable = (elements: number) => {
  const [BPF_MAP_TYPE_ARRAY, BPF_F_MMAPABLE] = [2, 1024]
  return native.createMap('parts', BPF_MAP_TYPE_ARRAY, 4, 64, elements, BPF_F_MMAPABLE)
}

test('a mapped part is the same memory as the whole, and unmap ends it too', (t) => {
  const before = native.openHandles()
  const map = makeMappable(4096)
  const part = map.mmapPart(2 * 65536, 128)
  t.is(part.byteLength, 128)
  t.is(native.openHandles().mappedBytes - before.mappedBytes, 4096)
  new Uint32Array(part)[17] = 5
  const whole = map.mmap()
  t.is(new Uint32Array(whole, 2 * 65536)[17], 5)
  t.not(map.mmapPart(2 * 65536, 128), part)
  map.unmap()
  t.deepEqual([part.byteLength, whole.byteLength], [0, 0])
  t.is(native.openHandles().mappings, before.mappings)
  map.close()
})

test('a part that is empty, reaches beyond the map or does not start with a page is refused', (t) => {
  const map = makeMappable(4096)
  for (const [offset, length] of [
    [0, 0],
    [3 * 65536, 65537],
    [64, 64],
  ] as const) {
    t.is(failureOf(t, () => map.mmapPart(offset, length)).code, 'EINVAL')
  }
  map.close()
})

test('mapped memory outlives the map', (t) => {
  const object = openFixture(t)
  object.load()
  const shared = object.map('shared')
  const words = new Uint32Array(shared.mmap())
  shared.close()
  object.close()
  words[5] = 9
  t.is(words[5], 9)
})

test('only an mmapable array can be mapped', (t) => {
  t.is(failureOf(t, () => loadFixture(t).map('table').mmap()).code, 'EINVAL')
})

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

test('one program loaded twice has the same tag and instructions; another placeholder, or another map, is seen', (t) => {
  const load = (small: bigint) => {
    const object = openFixture(t)
    object.fillPlaceholder(PLACEHOLDER.small, small)
    object.load()
    return object
  }
  const [one, same, other] = [load(7n), load(7n), load(8n)]
  const [filled, again, changed] = [one, same, other].map((object) => object.program('placeholders'))
  t.is((filled?.instructions().length ?? 1) % 8, 0)
  t.deepEqual([again?.info.tag, again?.instructions()], [filled?.info.tag, filled?.instructions()])
  t.not(changed?.info.tag, filled?.info.tag)
  t.notDeepEqual(changed?.instructions(), filled?.instructions())
  // Each object has made maps of its own: the tag leaves them out, the instructions name them.
  const [answer, elsewhere] = [one.program('answer'), same.program('answer')]
  t.is(elsewhere.info.tag, answer.info.tag)
  t.notDeepEqual(elsewhere.instructions(), answer.instructions())
  answer.close()
  t.is(failureOf(t, () => answer.instructions()).code, 'EBADF')
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
  object.map('shared').pin(join(pins, 'shared'))
  object.program('answer').pin(join(pins, 'answer'))
  const script = fileURLToPath(new URL('leak.ts', import.meta.url))
  const args = ['--expose-gc', '--import=tsx', script, fixturePath, pins, '2000']
  const { before, after, open } = JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8' }))
  t.deepEqual(open, { objects: 0, maps: 0, programs: 0, links: 0, mappings: 0, mappedBytes: 0 })
  t.is(after.descriptors, before.descriptors)
  t.true(after.residentBytes - before.residentBytes < 32 * 2 ** 20, `${after.residentBytes} of ${before.residentBytes}`)
})
