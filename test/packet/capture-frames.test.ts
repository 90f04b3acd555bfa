// SPDX-License-Identifier: Apache-2.0
// Captured are fragments, IPv6 and VLAN tags as all else is: each frame as it came, whatever the packet path made of it.
import test from 'ava'
import { CapturingBalancer, captureOf, openCapture } from './capture.ts'
import { bodyOf, FAMILIES, octetsOf } from './families.ts'
import { ETHERTYPE, EXTENSION, extension, PROTOCOL, type Tag, TCP, tcp6Frame, udp, VIP6 } from './frames.ts'
import { backendAddress, breathe, linkPath, SECOND_INTERFACE } from './plane.ts'

test.beforeEach(breathe)

const balancer = new CapturingBalancer()
test.after.always(() => balancer.close())

for (const { family, HOST, packet, piece, CLIENT, VIP, ROUTER, ip, errorFrame, errors, tcpFrame } of FAMILIES) {
  const service = `udp://${HOST}:53`
  const ofUdp = { protocol: PROTOCOL.UDP }
  const first = (identification: number): Buffer =>
    packet({ ...ofUdp, ...piece(identification, 0, true) }, udp({ payload: Buffer.alloc(16, 0x11) }))
  const later = (identification: number): Buffer =>
    packet({ ...ofUdp, ...piece(identification, 24, false) }, Buffer.alloc(40, 0x55))

  test.serial(
    `${family}: every fragment of a datagram is told, with the service and the backend of its first one`,
    (t) => {
      balancer.reset()
      balancer.add(service, { scheduler: 'rr' }, 2)
      const told = captureOf(t, balancer, first(7))
      t.like(told, { verdict: 'tx', reason: 'tx_forwarded', service, flow: ['flow_inserted'] })
      const second = captureOf(t, balancer, later(7))
      t.like(second, { verdict: 'tx', reason: 'tx_forwarded', service, backend: told?.backend, flow: [] })
      const alone = captureOf(t, balancer, later(8))
      t.like(alone, { verdict: 'drop', reason: 'drop_fragment', service: undefined, backend: undefined })
    },
  )

  test.serial(`${family}: fragments are chosen by their service, and one that has come to none with them`, (t) => {
    balancer.reset()
    balancer.add(service, { scheduler: 'rr' }, 2)
    const { id } = balancer.live(service).service
    const vip = { octets: octetsOf(VIP), mask: octetsOf(VIP).map(() => 255) }
    const chosen = openCapture(t, { service: { id, vip } })
    chosen.add(service, { scheduler: 'rr' }, 2)
    chosen.add(`tcp://${HOST}:80`, { scheduler: 'rr' }, 1)
    t.is(chosen.live(service).service.id, id)
    for (const frame of [first(1), later(1), later(2), tcpFrame()]) chosen.send(frame)
    t.deepEqual(
      chosen.captured().map(({ reason }) => reason),
      ['tx_forwarded', 'tx_forwarded', 'drop_fragment'],
    )
  })

  test.serial(`${family}: fragments are chosen by their source, by which alone the later ones are known`, (t) => {
    const chosen = openCapture(t, { source: { octets: octetsOf(CLIENT), mask: octetsOf(CLIENT).map(() => 255) } })
    chosen.add(service, { scheduler: 'rr' }, 2)
    const other = packet({ ...ofUdp, ...piece(1, 24, false), source: ROUTER }, Buffer.alloc(40))
    for (const frame of [first(1), later(1), other]) chosen.send(frame)
    t.is(chosen.captured().length, 2)
  })

  test.serial(`${family}: an error about a flow is told with the flow's service and backend`, (t) => {
    balancer.reset()
    balancer.add(`tcp://${HOST}:80`, { scheduler: 'rr' }, 3)
    const flow = captureOf(t, balancer, tcpFrame())
    const [error = { type: 0, code: 0 }] = Object.values(errors)
    const quoted = ip({ source: VIP, vip: CLIENT }, bodyOf('tcp', { sourcePort: 80, port: 40000 }))
    const told = captureOf(t, balancer, errorFrame({ source: ROUTER }, error, quoted))
    t.like(told, { verdict: 'tx', service: `tcp://${HOST}:80`, backend: flow?.backend, flow: [] })
  })

  const tag = (id: number): Tag => ({ type: ETHERTYPE.VLAN, id })
  const CAME: Readonly<Record<string, readonly Tag[]>> = {
    'no tag': [],
    'the backend’s tag': [tag(300)],
    'another tag': [tag(100)],
    'two tags': [{ type: ETHERTYPE.QINQ, id: 7 }, tag(100)],
    'three tags': [tag(1), tag(2), tag(3)],
  }
  for (const [what, tags] of Object.entries(CAME)) {
    test.serial(
      `${family}: with ${what} a frame is told as it came, where it leaves with another one, or with none`,
      (t) => {
        for (const slot of [0, SECOND_INTERFACE.slot]) {
          for (const vlan of [undefined, 300]) {
            balancer.reset()
            balancer.add(`tcp://${HOST}:80`, { scheduler: 'mh' }, { 1: { path: linkPath(1, slot, vlan) } })
            // From shorter than the head that is saved first to what one buffer holds.
            for (const length of [0, 1, 2, 3, 4, 5, 100, 1460, 3000]) {
              const payload = Buffer.from(Array.from({ length }, (_, i) => i & 255))
              const told = captureOf(t, balancer, tcpFrame({ tags, payload, flags: TCP.ACK }))
              if (tags.length > 2) t.like(told, { verdict: 'pass', reason: 'pass_not_ip' })
              else t.like(told, { verdict: slot === 0 ? 'tx' : 'redirect', backend: backendAddress(1, family) })
            }
          }
        }
      },
    )
  }
}

test.serial('IPv6 behind extension headers is told whole, and so is what has too many of them', (t) => {
  balancer.reset()
  const service = `tcp://[${VIP6}]:80`
  balancer.add(service, { scheduler: 'rr' }, 1)
  const chain = (count: number) => Array.from({ length: count }, () => extension(EXTENSION.DESTINATION, 2))
  t.like(captureOf(t, balancer, tcp6Frame({ extensions: chain(8) })), { reason: 'tx_forwarded', service })
  t.like(captureOf(t, balancer, tcp6Frame({ extensions: chain(9) })), { reason: 'drop_extensions', service: undefined })
})
