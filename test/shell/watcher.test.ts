// SPDX-License-Identifier: Apache-2.0
// What the kernel tells, and what a controller hears of it. Clock, loop and kernel are this file's own.
import test from 'ava'
import type { Interface, Neighbour, NetlinkEvent } from '../../src/dataplane/native.ts'
import { PAUSE_MS, Watcher } from '../../src/shell/watcher.ts'

const REACHABLE = 2
const STALE = 4
const DELAY = 8
const PROBE = 16
const FAILED = 32

const neighbour = (more: Partial<Neighbour> & { deleted?: boolean } = {}): NetlinkEvent => {
  const { deleted = false, ...rest } = more
  return {
    kind: 'neighbour',
    deleted,
    neighbour: { ifindex: 2, address: '198.51.100.1', mac: 'a', state: REACHABLE, managed: true, ...rest },
  }
}
const link = (more: Partial<Interface> & { deleted?: boolean } = {}): NetlinkEvent => {
  const { deleted = false, ...rest } = more
  const eth0 = { ifindex: 2, name: 'eth0', mac: 'a', up: true } as Interface
  return { kind: 'link', deleted, link: { ...eth0, ...rest } }
}
const ROUTE: NetlinkEvent = {
  kind: 'route',
  deleted: false,
  route: { destination: '0.0.0.0', prefixLength: 0, type: 'unicast', table: 254, ifindex: 2, gateway: '198.51.100.9' },
}
const ADDRESS: NetlinkEvent = {
  kind: 'address',
  deleted: true,
  address: { ifindex: 2, address: '198.51.100.8', prefixLength: 24 },
}
const OVERRUN: NetlinkEvent = { kind: 'overrun' }
const NEIGHBOUR_1 = 'neighbours 2/198.51.100.1'

const started = () => {
  const heard: string[] = []
  let listener: (events: NetlinkEvent[]) => void = () => undefined
  let now = 1000
  let due: { at: number; call: () => void } | undefined
  let closed = 0
  const watcher = new Watcher(
    {
      monitor: (given) => {
        listener = given
        return { close: () => void closed++, ref: () => undefined, unref: () => undefined }
      },
      now: () => now,
      after: (milliseconds, call) => {
        const mine = { at: now + Math.max(0, milliseconds), call }
        due = mine
        return () => {
          if (due === mine) due = undefined
        }
      },
    },
    {
      onNeighbours: (changed) => heard.push(`neighbours ${changed.map((o) => `${o.ifindex}/${o.address}`).join(' ')}`),
      onLinks: (changed) => heard.push(`links ${changed.map((o) => `${o.name}${o.deleted ? '-' : '+'}`).join(' ')}`),
      onRoutes: () => heard.push('routes'),
      onOverrun: () => heard.push('overrun'),
    },
  )
  /** Lets so many milliseconds pass. @returns what was heard meanwhile */
  const pass = (milliseconds: number): string[] => {
    const end = now + milliseconds
    while (due !== undefined && due.at <= end) {
      const { at, call } = due
      due = undefined
      now = at
      call()
    }
    now = end
    return heard.splice(0)
  }
  return {
    watcher,
    pass,
    tell: (...events: NetlinkEvent[]) => listener(events),
    waiting: () => due !== undefined,
    closed: () => closed,
  }
}

test('the first change is told in the same turn of the loop', (t) => {
  const { tell, pass } = started()
  tell(neighbour())
  t.deepEqual(pass(0), [NEIGHBOUR_1])
})

test('changes of one turn are told together, each neighbour and link once, links before what depends on them', (t) => {
  const { tell, pass } = started()
  tell(neighbour(), neighbour({ address: '198.51.100.2' }))
  tell(neighbour({ mac: 'b' }), link({ mac: 'b' }), ROUTE, ADDRESS, ROUTE)
  t.deepEqual(pass(0), ['links eth0+', 'routes', `${NEIGHBOUR_1} 2/198.51.100.2`])
})

test('what comes after is held back until the pause has passed, and no longer', (t) => {
  const { tell, pass } = started()
  tell(ROUTE)
  t.deepEqual(pass(5), ['routes'])
  tell(ROUTE)
  t.deepEqual(pass(PAUSE_MS - 6), [])
  tell(ROUTE)
  t.deepEqual(pass(1), ['routes'])
  t.deepEqual(pass(1000), [])
  t.true(PAUSE_MS <= 20)
})

test('an entry that is confirmed again and again is no change', (t) => {
  const { tell, pass, waiting } = started()
  tell(neighbour())
  t.deepEqual(pass(100), [NEIGHBOUR_1])
  for (const state of [STALE, DELAY, PROBE, REACHABLE]) tell(neighbour({ state }))
  t.false(waiting())
  t.deepEqual(pass(100), [])
})

test('another MAC, an entry that fails, is let go or goes, and one that comes back, are changes', (t) => {
  const { tell, pass } = started()
  const steps = [
    { mac: 'b' },
    { mac: 'b', state: FAILED },
    { mac: 'b' },
    { mac: 'b', managed: false },
    { deleted: true },
  ]
  tell(neighbour())
  pass(100)
  for (const step of steps) {
    tell(neighbour(step))
    t.deepEqual(pass(100), [NEIGHBOUR_1], JSON.stringify(step))
  }
  tell(neighbour({ mac: '', state: FAILED }))
  t.deepEqual(pass(100), [NEIGHBOUR_1])
})

test('a change that is taken back at once is told all the same: somebody may have read what was in between', (t) => {
  const { tell, pass } = started()
  tell(neighbour())
  pass(100)
  tell(neighbour({ mac: 'b' }), neighbour({ mac: 'a' }))
  t.deepEqual(pass(100), [NEIGHBOUR_1])
})

test('the same address in two segments is two neighbours', (t) => {
  const { tell, pass } = started()
  tell(neighbour(), neighbour({ ifindex: 3 }))
  t.deepEqual(pass(0), [`${NEIGHBOUR_1} 3/198.51.100.1`])
})

test('a link that says what it said before is no change; whatever differs is, and so are the routes over it', (t) => {
  const { tell, pass } = started()
  tell(link())
  t.deepEqual(pass(100), ['links eth0+', 'routes'])
  tell(link())
  t.deepEqual(pass(100), [])
  for (const step of [{ up: false }, { up: false, name: 'wan0' }, { up: false, name: 'wan0', deleted: true }]) {
    tell(link(step))
    t.deepEqual(pass(100), [`links ${step.name ?? 'eth0'}${step.deleted === true ? '-' : '+'}`, 'routes'])
  }
})

test('a link that goes and comes back under another number is told of both', (t) => {
  const { tell, pass } = started()
  tell(link({ deleted: true }), link({ ifindex: 9 }))
  t.deepEqual(pass(0), ['links eth0- eth0+', 'routes'])
})

test('after an overrun nothing else is told, and nothing that was known before holds', (t) => {
  const { tell, pass } = started()
  tell(neighbour(), link())
  pass(100)
  tell(neighbour({ mac: 'b' }), OVERRUN, ROUTE)
  t.deepEqual(pass(100), ['overrun'])
  tell(neighbour({ mac: 'b' }), link())
  t.deepEqual(pass(100), ['links eth0+', 'routes', NEIGHBOUR_1])
})

test('nothing is told after close, neither what waits nor what comes, and it closes once more in silence', (t) => {
  const { tell, pass, watcher, waiting, closed } = started()
  tell(neighbour())
  watcher.close()
  t.false(waiting())
  tell(neighbour({ mac: 'b' }))
  t.deepEqual(pass(100), [])
  watcher.close()
  t.is(closed(), 2)
})

test('a handler that closes the watcher is the last to be called', (t) => {
  const heard: string[] = []
  let listener: (events: NetlinkEvent[]) => void = () => undefined
  const watcher: Watcher = new Watcher(
    {
      monitor: (given) => {
        listener = given
        return { close: () => undefined, ref: () => undefined, unref: () => undefined }
      },
      now: () => 0,
      after: (_, call) => {
        call()
        return () => undefined
      },
    },
    {
      onNeighbours: () => heard.push('neighbours'),
      onLinks: () => {
        heard.push('links')
        watcher.close()
      },
      onRoutes: () => heard.push('routes'),
      onOverrun: () => heard.push('overrun'),
    },
  )
  listener([link(), neighbour(), ROUTE])
  t.deepEqual(heard, ['links'])
})
