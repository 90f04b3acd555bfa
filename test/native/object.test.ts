// SPDX-License-Identifier: Apache-2.0
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import test from 'ava'
import type { BpfObject } from '../../src/dataplane/native.ts'
import {
  compileFixture,
  failureOf,
  fixturePath,
  loadFixture,
  native,
  openFixture,
  temporaryDirectory,
  u32,
} from './setup.ts'

const _XDP_DROP = 1
const XDP_PASS = 2
const XDP_TX = 3
const frame = Buffer.alloc(60, 0x11)

test.before(compileFixture)

test('an object names its maps and programs before it is loaded', (t) => {
  const object = openFixture(t)
  t.true(['shared', 'per_cpu', 'table'].every((name) => object.mapNames.includes(name)))
  t.deepEqual([...object.programNames].sort(), ['answer', 'longer', 'placeholders', 'refused', 'tell', 'twice'])
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
