// SPDX-License-Identifier: Apache-2.0
// What the kernel tells of its own accord: each kind of change as it is made with ip, overruns, and how a monitor ends.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setImmediate, setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import test, { type ExecutionContext } from 'ava'
import type { NetlinkEvent } from '../../src/dataplane/native.ts'
import { makeVeth, native, run, type Veth } from './setup.ts'

const ADDON = fileURLToPath(new URL('../../build/native/xlb.node', import.meta.url))
const NUD_PERMANENT = 128
const RT_TABLE_MAIN = 254
const RT_TABLE_LOCAL = 255
const PATIENCE_MS = 5000

type Of<Kind extends NetlinkEvent['kind']> = Extract<NetlinkEvent, { kind: Kind }>

/** A monitor of a device's events of one kind; other tests' devices are told of too. */
const watch = <Kind extends NetlinkEvent['kind']>(t: ExecutionContext, kind: Kind, ifindex?: number) => {
  const heard: Of<Kind>[] = []
  const all: Of<Kind>[] = []
  const indexOf = (event: NetlinkEvent): number => {
    if (event.kind === 'overrun') return -1
    if (event.kind === 'neighbour') return event.neighbour.ifindex
    if (event.kind === 'link') return event.link.ifindex
    return event.kind === 'address' ? event.address.ifindex : event.route.ifindex
  }
  const monitor = native.netlink.monitor((events) => {
    for (const event of events) {
      if (event.kind !== kind || (ifindex !== undefined && indexOf(event) !== ifindex)) continue
      heard.push(event as Of<Kind>)
      all.push(event as Of<Kind>)
    }
  })
  t.teardown(() => monitor.close())
  /** The first event from now on that satisfies `wanted`. */
  const next = async (wanted: (event: Of<Kind>) => boolean): Promise<Of<Kind>> => {
    for (const end = Date.now() + PATIENCE_MS; Date.now() < end; await setTimeout(2)) {
      const found = heard.findIndex(wanted)
      if (found >= 0) return heard.splice(0, found + 1).at(-1) as Of<Kind>
    }
    throw new Error(`not told: ${wanted}; told: ${JSON.stringify(heard)}`)
  }
  return { next, all }
}

const neighbourWords = ({ name }: Veth, address: string, mac: string): string[] => {
  return ['neighbour', 'replace', address, 'lladdr', mac, 'dev', name, 'nud', 'permanent']
}

for (const address of ['198.51.100.7', '2001:db8::7']) {
  test(`a neighbour's MAC, its change and its end are told: ${address}`, async (t) => {
    const veth = makeVeth(t)
    const { next } = watch(t, 'neighbour', veth.ifindex)
    const entry = { ifindex: veth.ifindex, address, state: NUD_PERMANENT, managed: false }
    for (const mac of ['02:00:00:00:00:71', '02:00:00:00:00:72']) {
      run('ip', ...neighbourWords(veth, address, mac))
      const told = await next((event) => event.neighbour.address === address && event.neighbour.mac === mac)
      t.deepEqual(told, { kind: 'neighbour', deleted: false, neighbour: { ...entry, mac } })
    }
    run('ip', 'neighbour', 'del', address, 'dev', veth.name)
    const told = await next((event) => event.deleted)
    t.like(told.neighbour, { ifindex: veth.ifindex, address })
  })
}

test('a managed neighbour is told as one, and again when it has answered', async (t) => {
  const veth = makeVeth(t)
  const { next } = watch(t, 'neighbour', veth.ifindex)
  native.netlink.manageNeighbour(veth.ifindex, '198.51.100.2')
  const told = await next(({ neighbour }) => neighbour.mac !== '')
  t.like(told.neighbour, { address: '198.51.100.2', mac: veth.peerMac, managed: true })
  native.netlink.deleteNeighbour(veth.ifindex, '198.51.100.2')
  t.is((await next(({ deleted }) => deleted)).neighbour.address, '198.51.100.2')
})

test("a link's name, MAC and state are told as they change, and that it goes", async (t) => {
  const veth = makeVeth(t)
  const { next } = watch(t, 'link', veth.ifindex)
  run('ip', 'link', 'set', veth.name, 'address', '02:00:00:00:00:73')
  const told = await next(({ link }) => link.mac === '02:00:00:00:00:73')
  t.is(told.deleted, false)
  t.deepEqual(told.link, native.netlink.interfaceByIndex(veth.ifindex, -1))
  run('ip', 'link', 'set', veth.name, 'down')
  t.is((await next(({ link }) => !link.up)).link.name, veth.name)
  const renamed = `${veth.name}r`
  run('ip', 'link', 'set', veth.name, 'name', renamed)
  await next(({ link }) => link.name === renamed)
  run('ip', 'link', 'set', renamed, 'up')
  await next(({ link }) => link.up)
  run('ip', 'link', 'del', renamed)
  t.like(await next(({ deleted }) => deleted), { link: { ifindex: veth.ifindex, name: renamed } })
})

test("a bridge's port that leaves it is not told as gone, nor are its forwarding entries as neighbours", async (t) => {
  const veth = makeVeth(t)
  const bridge = `${veth.name}b`
  run('ip', 'link', 'add', bridge, 'type', 'bridge')
  t.teardown(() => run('ip', 'link', 'del', bridge))
  const links = watch(t, 'link', veth.ifindex)
  const neighbours = watch(t, 'neighbour', veth.ifindex)
  run('ip', 'link', 'set', veth.name, 'master', bridge)
  await links.next(({ link }) => link.master !== 0)
  run('bridge', 'fdb', 'add', '02:00:00:00:00:74', 'dev', veth.name, 'master', 'static')
  run('ip', 'link', 'set', veth.name, 'nomaster')
  await links.next(({ link }) => link.master === 0)
  run('ip', ...neighbourWords(veth, '198.51.100.8', '02:00:00:00:00:75'))
  await neighbours.next(({ neighbour }) => neighbour.address === '198.51.100.8')
  t.false(links.all.some(({ deleted }) => deleted))
  t.false(neighbours.all.some(({ neighbour }) => neighbour.mac === '02:00:00:00:00:74'))
})

test('addresses of both families are told, and that they go', async (t) => {
  const veth = makeVeth(t)
  const { next } = watch(t, 'address', veth.ifindex)
  const both = [
    { address: '198.51.100.65', prefixLength: 26 },
    { address: '2001:db8:1::1', prefixLength: 64 },
  ]
  for (const { address, prefixLength } of both) {
    run('ip', 'address', 'add', `${address}/${prefixLength}`, 'dev', veth.name)
    const told = await next((event) => event.address.address === address)
    t.deepEqual(told, { kind: 'address', deleted: false, address: { ifindex: veth.ifindex, address, prefixLength } })
    run('ip', 'address', 'del', `${address}/${prefixLength}`, 'dev', veth.name)
    t.is((await next(({ deleted }) => deleted)).address.address, address)
  }
})

test('routes of both families and of any table are told, and that they go', async (t) => {
  const veth = makeVeth(t)
  const { next } = watch(t, 'route')
  run('ip', 'address', 'add', '2001:db8:2::1/64', 'dev', veth.name, 'nodad')
  const local = await next(({ route }) => route.destination === '2001:db8:2::1')
  t.like(local.route, { prefixLength: 128, type: 'local', table: RT_TABLE_LOCAL })
  const cases = [
    { destination: '100.64.7.0', prefixLength: 24, gateway: '198.51.100.2', table: RT_TABLE_MAIN },
    { destination: '0.0.0.0', prefixLength: 0, gateway: '198.51.100.2', table: 7700 },
    { destination: '2001:db8:9::', prefixLength: 48, gateway: '2001:db8:2::2', table: RT_TABLE_MAIN },
    { destination: '::', prefixLength: 0, gateway: '', table: 7700 },
  ]
  for (const { destination, prefixLength, gateway, table } of cases) {
    const family = destination.includes(':') ? '-6' : '-4'
    const hop = gateway === '' ? [] : ['via', gateway]
    const words = [`${destination}/${prefixLength}`, ...hop, 'dev', veth.name, 'table', String(table)]
    run('ip', family, 'route', 'add', ...words)
    const route = { destination, prefixLength, type: 'unicast', table, ifindex: veth.ifindex, gateway } as const
    const isIt = (event: Of<'route'>) => event.route.destination === destination && event.route.table === table
    t.deepEqual(await next(isIt), { kind: 'route', deleted: false, route })
    run('ip', family, 'route', 'del', ...words)
    t.deepEqual(await next((event) => event.deleted && isIt(event)), { kind: 'route', deleted: true, route })
  }
  run('ip', 'route', 'add', 'unreachable', '100.64.8.98')
  t.teardown(() => run('ip', 'route', 'del', 'unreachable', '100.64.8.98'))
  const told = await next(({ route }) => route.destination === '100.64.8.98')
  t.like(told.route, { type: 'unreachable', prefixLength: 32, gateway: '' })
})

test('after close nothing is told, and it closes once more in silence', async (t) => {
  const veth = makeVeth(t)
  let calls = 0
  const monitor = native.netlink.monitor(() => {
    calls++
    monitor.close()
  })
  run('ip', ...neighbourWords(veth, '198.51.100.9', '02:00:00:00:00:76'))
  for (const end = Date.now() + PATIENCE_MS; Date.now() < end && calls === 0; ) await setTimeout(2)
  t.is(calls, 1)
  const witness = watch(t, 'neighbour', veth.ifindex)
  run('ip', ...neighbourWords(veth, '198.51.100.9', '02:00:00:00:00:77'))
  await witness.next(({ neighbour }) => neighbour.mac === '02:00:00:00:00:77')
  await setImmediate()
  t.is(calls, 1)
  monitor.close()
  monitor.unref()
  monitor.ref()
})

test('what is no listener, and room that the kernel cannot give, are refused', (t) => {
  const wrong = (value: unknown): never => value as never
  const before = native.openHandles().monitors
  t.throws(() => native.netlink.monitor(wrong(undefined)), { instanceOf: TypeError })
  t.throws(() => native.netlink.monitor(() => undefined, wrong('1')), { instanceOf: TypeError })
  t.throws(() => native.netlink.monitor(() => undefined, 2 ** 31), { instanceOf: RangeError })
  t.is(native.openHandles().monitors, before)
})

/** A process of its own, which has the addon as `native`. */
const inProcess = (source: string, ...before: string[]) => {
  const script = `const native = require(${JSON.stringify(ADDON)}); ${source}`
  const [command = '', ...words] = [...before, process.execPath, '-e', script]
  return spawn(command, words, { stdio: ['ignore', 'pipe', 'pipe'] })
}

test('an overrun is told each time, and what comes after it is told as before', async (t) => {
  // In a namespace of its own, where nobody else's changes fill the socket.
  const { namespace } = makeVeth(t)
  const child = inProcess(
    `const { execFileSync } = require('node:child_process')
     const { setTimeout } = require('node:timers/promises')
     let heard = []
     const monitor = native.netlink.monitor((events) => heard.push(...events), 4096)
     const words = (last, mac) => 'neighbour replace 198.51.100.' + last + ' lladdr ' + mac + ' dev far nud permanent'
     const told = async (wanted) => {
       for (let i = 0; i < 1000 && !heard.some(wanted); i++) await setTimeout(2)
       return heard.some(wanted)
     }
     const round = async (mac) => {
       heard = []
       // JavaScript waits for its end, so that nobody reads meanwhile.
       const input = Array.from({ length: 200 }, (_, i) => words(i + 3, mac)).join('\\n')
       execFileSync('ip', ['-batch', '-'], { input })
       const overrun = await told(({ kind }) => kind === 'overrun')
       execFileSync('ip', words(250, mac).split(' '))
       const after = await told(({ neighbour }) => neighbour?.address === '198.51.100.250' && neighbour.mac === mac)
       return { overrun, after, lost: heard.length < 200 }
     }
     const main = async () => {
       const rounds = []
       for (let i = 1; i <= 3; i++) rounds.push(await round('02:00:00:00:00:0' + i))
       monitor.close()
       console.log(JSON.stringify(rounds))
     }
     main()`,
    'nsenter',
    `--net=/run/netns/${namespace}`,
  )
  let said = ''
  child.stdout.on('data', (data) => {
    said += data
  })
  t.deepEqual(await once(child, 'close'), [0, null])
  t.deepEqual(JSON.parse(said), Array(3).fill({ overrun: true, after: true, lost: true }))
})

test('a monitor keeps its process running until it is closed, or unless it is let go', async (t) => {
  const unheeded = inProcess('native.netlink.monitor(() => {}).unref()')
  t.deepEqual(await once(unheeded, 'exit'), [0, null])
  const closed = inProcess('const m = native.netlink.monitor(() => {}); setTimeout(() => m.close(), 50).unref()')
  t.deepEqual(await once(closed, 'exit'), [0, null])
  const heeded = inProcess('const m = native.netlink.monitor(() => {}); m.unref(); m.ref(); console.log("open")')
  t.teardown(() => heeded.kill())
  await once(heeded.stdout, 'data')
  const first = await Promise.race([once(heeded, 'exit'), setTimeout(200, 'running')])
  t.is(first, 'running')
  const ending = inProcess('native.netlink.monitor(() => {}); process.exit(7)')
  t.deepEqual(await once(ending, 'exit'), [7, null])
})

test('what a listener throws is an uncaught exception', async (t) => {
  const { namespace } = makeVeth(t)
  const child = inProcess(
    `native.netlink.monitor(() => { throw new Error('heard') })
     require('node:child_process').execFileSync('ip', ['link', 'set', 'lo', 'up'])`,
    'nsenter',
    `--net=/run/netns/${namespace}`,
  )
  let errors = ''
  child.stderr.on('data', (data) => {
    errors += data
  })
  t.deepEqual(await once(child, 'close'), [1, null])
  t.regex(errors, /Error: heard/)
})

for (const ending of ['by itself', 'by force'] as const) {
  test(`a worker thread's monitor ends with it: ${ending}`, async (t) => {
    const letGo = ending === 'by itself' ? '.unref()' : ''
    const source = `
      const { parentPort, workerData } = require('node:worker_threads')
      const native = require(workerData)
      native.netlink.monitor(() => {})${letGo}
      parentPort.postMessage(native.openHandles().monitors)`
    const worker = new Worker(source, { eval: true, workerData: ADDON, execArgv: [] })
    const ended = once(worker, 'exit')
    t.deepEqual(await once(worker, 'message'), [1])
    if (ending === 'by force') await worker.terminate()
    t.deepEqual(await ended, [ending === 'by force' ? 1 : 0])
  })
}
