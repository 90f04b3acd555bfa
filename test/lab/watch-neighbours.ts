// SPDX-License-Identifier: Apache-2.0
// Run by watcher.test.ts in a host's namespace: says when, by the clock that all processes share, each change was told.
import { loadNative } from '../../src/dataplane/native.ts'
import { nodePorts, Watcher } from '../../src/shell/watcher.ts'

const { netlink } = loadNative()

const say = (what: string): void => {
  console.log(`${process.hrtime.bigint()} ${what}`)
}

new Watcher(
  nodePorts((listener) => netlink.monitor(listener)),
  {
    onNeighbours: (changed) => {
      const now = [...netlink.neighbours(2), ...netlink.neighbours(10)]
      for (const { ifindex, address } of changed) {
        const entry = now.find((each) => each.ifindex === ifindex && each.address === address)
        say(`neighbour ${address} ${entry?.mac || '-'}`)
      }
    },
    onLinks: (changed) => {
      for (const { name, deleted } of changed) say(`link ${name} ${deleted ? 'gone' : 'there'}`)
    },
    onRoutes: () => say('routes'),
    onOverrun: () => say('overrun'),
  },
)
say('ready')
