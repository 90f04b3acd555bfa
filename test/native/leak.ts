// SPDX-License-Identifier: Apache-2.0
// Run by native.test.ts under --expose-gc: opens, maps and closes many times, then prints what is left as JSON.
import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { type BpfProgram, loadNative } from '../../src/dataplane/native.ts'

const [fixture = '', pins = '', count = '', ifindex = ''] = process.argv.slice(2)
const native = loadNative()
const collect = globalThis.gc ?? (() => undefined)

const settle = async (): Promise<void> => {
  for (let i = 0; i < 4; i++) {
    collect()
    await setImmediate() // Node runs the finalizers of external buffers from its event loop.
  }
}

/** What a descriptor is; of Node itself, which opens and closes files as it likes, undefined. */
const kindOf = (descriptor: string): string | undefined => {
  try {
    const link = readlinkSync(`/proc/self/fd/${descriptor}`)
    return /bpf|btf|socket/.test(link) ? link : undefined
  } catch {
    return undefined // the folder's own, closed by now
  }
}

/** Whatever the addon counts itself. */
const mappings = (): number => readFileSync('/proc/self/maps', 'utf8').match(/bpf-map/g)?.length ?? 0

const measure = (): { descriptors: string[]; mappings: number; residentBytes: number } => ({
  descriptors: readdirSync('/proc/self/fd').flatMap((descriptor) => kindOf(descriptor) ?? []),
  mappings: mappings(),
  residentBytes: process.memoryUsage.rss(),
})

const KEYS = new Uint8Array(Uint32Array.from({ length: 16 }, (_, i) => i).buffer)
const VALUES = new Uint8Array(16 * 8)
const FRAME = new Uint8Array(1500)
/** Classic BPF: takes nothing. */
const DEAF = new Uint8Array(Uint32Array.from([0x06, 0]).buffer)

/** A packet socket and a link: the kernel takes its time to end either. */
const attach = (program: BpfProgram): void => {
  const socket = native.openRawSocket(DEAF)
  socket.read(0, 1)
  socket.close()
  const link = native.attachXdp(program, Number(ifindex), 'generic')
  link.update(program)
  link.close()
}

/** Batches, a ring with a record in it, a program that runs. */
const use = (i: number): void => {
  const table = native.openMap(join(pins, 'table'))
  table.updateBatch(KEYS, VALUES, 16)
  table.lookupBatch()
  const records = native.openMap(join(pins, 'ring'))
  const ring = native.openRing(records)
  const tell = native.openProgram(join(pins, 'tell'))
  tell.run({ context: new Uint8Array(Uint32Array.from([63]).buffer) })
  ring.read(1000)
  const answer = native.openProgram(join(pins, 'answer'))
  answer.run({ data: FRAME })
  if (i % 50 === 0) attach(answer)
  if (i % 3 === 0) return
  for (const handle of [table, records, ring, tell, answer]) handle.close()
}

const round = (i: number): void => {
  use(i)
  const map = native.openMap(join(pins, 'shared'))
  new Uint32Array(map.mmap())[1] = i
  if (i % 2 === 0) map.unmap()
  const program = native.openProgram(join(pins, 'answer'))
  if (i % 3 !== 0) map.close() // Every third is left to the collector.
  if (i % 3 !== 0) program.close()
  const monitor = native.netlink.monitor(() => undefined)
  monitor.close()
  if (i % 50 === 0) {
    const object = native.openObject(fixture)
    object.setAutoload('refused', false)
    object.load()
    object.map('table').close()
    object.close()
  }
}

for (let i = 0; i < 100; i++) round(i)
await settle()
const before = measure()
for (let i = 0; i < Number(count); i++) {
  round(i)
  if (i % 100 === 0) await setImmediate()
}
await settle()
console.log(JSON.stringify({ before, after: measure(), open: native.openHandles() }))
