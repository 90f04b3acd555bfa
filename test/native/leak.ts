// SPDX-License-Identifier: Apache-2.0
// Run by native.test.ts under --expose-gc: opens, maps and closes many times, then prints what is left as JSON.
import { readdirSync, readlinkSync } from 'node:fs'
import { join } from 'node:path'
import { setImmediate } from 'node:timers/promises'
import { loadNative } from '../../src/dataplane/native.ts'

const [fixture = '', pins = '', count = ''] = process.argv.slice(2)
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

const measure = (): { descriptors: string[]; residentBytes: number } => ({
  descriptors: readdirSync('/proc/self/fd').flatMap((descriptor) => kindOf(descriptor) ?? []),
  residentBytes: process.memoryUsage.rss(),
})

const round = (i: number): void => {
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
