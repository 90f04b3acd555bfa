// SPDX-License-Identifier: Apache-2.0
import test from 'ava'
import fc from 'fast-check'
import { countReader, readCounts } from '../../src/dataplane/counters.ts'
import { BackendCounters } from '../../src/dataplane/layout.gen.ts'
import { countersPerCpu } from '../../src/dataplane/memory.ts'
import { makePlane } from './plane.ts'

test('counters read as numbers are those read as BigInt, beyond 32 bits too', (t) => {
  const { memory } = makePlane()
  const words = new BigUint64Array(memory.buffer('counters'))
  const counters = countersPerCpu(memory)
  const count = fc.bigInt({ min: 0n, max: 2n ** 52n })
  const read = countReader(memory)
  fc.assert(
    fc.property(fc.integer({ min: 0, max: counters - 1 }), fc.tuple(count, count, count), (counter, values) => {
      const { size, offset } = BackendCounters
      const [packets = 0n, bytes = 0n, flows = 0n] = values
      words[(counter * size + offset.packets) / 8] = packets
      words[(counter * size + offset.bytes) / 8] = bytes
      words[(counter * size + offset.flows) / 8] = flows
      const { packets: p, bytes: b, flows: f } = readCounts(memory, counter)
      return (
        JSON.stringify(read(counter)) === JSON.stringify({ packets: Number(p), bytes: Number(b), flows: Number(f) })
      )
    }),
  )
  t.pass()
})
