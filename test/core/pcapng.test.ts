// SPDX-License-Identifier: Apache-2.0
import test from 'ava'
import fc from 'fast-check'
import { enhancedPacket, interfaceDescription, interfaceStatistics, sectionHeader } from '../../src/core/pcapng.ts'

interface Block {
  type: number
  body: DataView
  /** Octets of the block, its own two lengths included. */
  length: number
}

/** Reads blocks as the specification says, and no more: type, length, body, length again. */
const readBlocks = (file: Uint8Array): Block[] => {
  const view = new DataView(file.buffer, file.byteOffset, file.length)
  const blocks: Block[] = []
  for (let at = 0; at < file.length; ) {
    const length = view.getUint32(at + 4, true)
    if (length % 4 !== 0 || length < 12 || at + length > file.length) throw new Error(`a block of ${length} at ${at}`)
    if (view.getUint32(at + length - 4, true) !== length) throw new Error(`two lengths at ${at}`)
    blocks.push({
      type: view.getUint32(at, true),
      body: new DataView(file.buffer, file.byteOffset + at + 8, length - 12),
      length,
    })
    at += length
  }
  return blocks
}

const readOptions = (body: DataView, from: number): Map<number, Uint8Array> => {
  const options = new Map<number, Uint8Array>()
  for (let at = from; ; ) {
    const code = body.getUint16(at, true)
    const length = body.getUint16(at + 2, true)
    if (code === 0) {
      if (length !== 0 || at + 4 !== body.byteLength) throw new Error('the end of options is not the end of the block')
      return options
    }
    options.set(code, new Uint8Array(body.buffer, body.byteOffset + at + 4, length))
    at += 4 + Math.ceil(length / 4) * 4
  }
}

const text = (octets: Uint8Array | undefined): string => new TextDecoder('utf-8', { fatal: true }).decode(octets)

const read64 = (body: DataView, at: number): bigint =>
  (BigInt(body.getUint32(at, true)) << 32n) | BigInt(body.getUint32(at + 4, true))

const packets = fc.record({
  interface: fc.nat(63),
  timeNs: fc.bigInt({ min: 0n, max: (1n << 63n) - 1n }),
  data: fc.uint8Array({ maxLength: 200 }),
  more: fc.nat(9000),
  comment: fc.string({ unit: 'grapheme', maxLength: 60 }),
})

test('a section is told to be little-endian, of version 1.0, and of unknown length', (t) => {
  const [block] = readBlocks(sectionHeader('xlb capture'))
  t.is(block?.type, 0x0a0d0d0a)
  t.is(block?.body.getUint32(0, true), 0x1a2b3c4d)
  t.is(block?.body.getUint16(4, true), 1)
  t.is(block?.body.getUint16(6, true), 0)
  t.is(block?.body.getBigInt64(8, true), -1n)
  t.is(text(readOptions(block?.body ?? new DataView(new ArrayBuffer(0)), 16).get(4)), 'xlb capture')
})

test('an interface is Ethernet, named, and its times are nanoseconds', (t) => {
  const [block] = readBlocks(interfaceDescription('eth0.7', 96))
  const { body } = block ?? t.fail('no block') ?? { body: new DataView(new ArrayBuffer(0)) }
  t.is(block?.type, 1)
  t.is(body.getUint16(0, true), 1)
  t.is(body.getUint32(4, true), 96)
  const options = readOptions(body, 8)
  t.is(text(options.get(2)), 'eth0.7')
  t.deepEqual(options.get(9), Uint8Array.of(9))
})

test('a packet is read back as it was written: interface, time, both lengths, octets, comment, direction', (t) => {
  fc.assert(
    fc.property(packets, ({ more, ...packet }) => {
      const frameLength = packet.data.length + more
      const blocks = readBlocks(enhancedPacket({ ...packet, frameLength }))
      const body = blocks[0]?.body
      if (blocks.length !== 1 || body === undefined || blocks[0]?.type !== 6) return false
      const options = readOptions(body, 20 + Math.ceil(packet.data.length / 4) * 4)
      t.is(body.getUint32(0, true), packet.interface)
      t.is(read64(body, 4), packet.timeNs)
      t.is(body.getUint32(12, true), packet.data.length)
      t.is(body.getUint32(16, true), frameLength)
      t.deepEqual(new Uint8Array(body.buffer, body.byteOffset + 20, packet.data.length), packet.data)
      t.is(text(options.get(1)), packet.comment)
      t.deepEqual(options.get(2), Uint8Array.of(1, 0, 0, 0))
      return true
    }),
  )
})

test('blocks follow each other without gaps, whatever their lengths', (t) => {
  fc.assert(
    fc.property(fc.array(packets, { maxLength: 20 }), (list) => {
      const blocks = list.map(({ more, ...packet }) =>
        enhancedPacket({ ...packet, frameLength: packet.data.length + more }),
      )
      const file = Buffer.concat([sectionHeader('x'), interfaceDescription('eth0', 0), ...blocks])
      return readBlocks(file).length === 2 + list.length
    }),
  )
  t.pass()
})

test('a comment that is longer than an option holds is cut between characters', (t) => {
  const [block] = readBlocks(
    enhancedPacket({
      interface: 0,
      timeNs: 0n,
      data: new Uint8Array(0),
      frameLength: 0,
      comment: `a${'€'.repeat(30_000)}`,
    }),
  )
  const comment = text(readOptions(block?.body ?? new DataView(new ArrayBuffer(0)), 20).get(1))
  t.is(comment, `a${'€'.repeat(21_844)}`)
})

test('statistics tell of what came, was lost and was written, and over which time', (t) => {
  const [block] = readBlocks(
    interfaceStatistics({ interface: 3, startNs: 5n << 32n, endNs: 6n << 32n, received: 10n, lost: 2n, delivered: 7n }),
  )
  const body = block?.body ?? new DataView(new ArrayBuffer(0))
  t.is(block?.type, 5)
  t.is(body.getUint32(0, true), 3)
  t.is(read64(body, 4), 6n << 32n)
  const options = readOptions(body, 12)
  const number = (code: number) => Buffer.from(options.get(code) ?? []).readBigUInt64LE()
  const time = (code: number) => {
    const octets = Buffer.from(options.get(code) ?? [])
    return (BigInt(octets.readUInt32LE(0)) << 32n) | BigInt(octets.readUInt32LE(4))
  }
  t.deepEqual([time(2), time(3)], [5n << 32n, 6n << 32n])
  t.deepEqual([number(4), number(5), number(8)], [10n, 2n, 7n])
})
