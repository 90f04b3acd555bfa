// SPDX-License-Identifier: Apache-2.0
// Run by watcher.test.ts: looks at a backend's record again and again, and says when its MAC is another, by the clock that all
// processes share. It takes no lock: packets take none.
import { setImmediate } from 'node:timers/promises'
import { scanBackends } from '../../src/dataplane/backend-records.ts'
import { loadNative } from '../../src/dataplane/native.ts'
import { readLive } from '../../src/dataplane/reader.ts'
import { pathsOf } from '../../src/shell/instance.ts'
import { openPlaneAt } from '../../src/shell/lock.ts'

const [instance = ''] = process.argv.slice(2)
const plane = openPlaneAt(loadNative(), pathsOf(instance).pins)
const octet = (word: number, i: number): string => ((word >>> (8 * i)) & 0xff).toString(16).padStart(2, '0')
let last = ''
console.log('0 ready')
for (;;) {
  let mac = ''
  scanBackends(plane, readLive(plane), ({ macLow, macHigh }) => {
    mac = [0, 1, 2, 3]
      .map((i) => octet(macLow, i))
      .concat([0, 1].map((i) => octet(macHigh, i)))
      .join(':')
  })
  if (mac !== last) console.log(`${process.hrtime.bigint()} mac ${mac}`)
  last = mac
  await setImmediate()
}
