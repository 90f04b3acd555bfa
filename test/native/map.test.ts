// SPDX-License-Identifier: Apache-2.0
import test from 'ava'
import { compileFixture, failureOf, loadFixture, native, openFixture, u32 } from './setup.ts'

const _XDP_DROP = 1
const _XDP_PASS = 2
const _XDP_TX = 3
const frame = Buffer.alloc(60, 0x11)

test.before(compileFixture)

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

/** Records as BpfRing.read packs them. */
const recordsIn = (batch: Buffer): Buffer[] => {
  const records: Buffer[] = []
  for (let at = 0; at < batch.length; ) {
    const length = Number(batch.readBigUInt64LE(at))
    records.push(batch.subarray(at + 8, at + 8 + length))
    at += 8 + Math.ceil(length / 8) * 8
  }
  return records
}

test('a ring gives records back in order, as many as are wanted at a time, and makes room by it', (t) => {
  const object = loadFixture(t)
  const program = object.program('tell')
  const tell = (size: number) => program.run({ context: Buffer.from(new Uint32Array([size]).buffer) }).returned
  const map = object.map('ring')
  const before = native.openHandles().rings
  const ring = native.openRing(map)
  map.close()
  t.is(native.openHandles().rings, before + 1)
  t.is(ring.read(1000).length, 0)
  for (const size of [1, 8, 63]) t.is(tell(size), 0)
  t.deepEqual(
    recordsIn(ring.read(1000)),
    [1, 8, 63].map((size) => Buffer.alloc(size, size)),
  )
  t.is(ring.read(1000).length, 0)

  let told = 0
  while (tell(56) === 0) told += 1
  t.is(told, 4096 / 64 - 1)
  const some = recordsIn(ring.read(200)).length
  t.is(some, 4, 'no more than it takes to reach that')
  t.is(tell(56), 0)
  t.is(recordsIn(ring.read(1 << 20)).length, told - some + 1)
  ring.close()
  t.is(native.openHandles().rings, before)
  t.is(failureOf(t, () => ring.read(1)).code, 'EBADF')
  program.close()
})

test('only a ring buffer is opened as a ring', (t) => {
  t.is(failureOf(t, () => native.openRing(loadFixture(t).map('table'))).call, 'ring_buffer__new')
})
