// SPDX-License-Identifier: Apache-2.0
// Which frames can be answers to probes: a program of classic BPF (linux/filter.h), for a socket that would else hear of all
// that comes to a director's stack.
import { PROBE_PORTS } from './packets.ts'

/** As much of a frame as answers are told by: all headers, and what an ICMP error quotes. */
const SNAP_BYTES = 256

// Loads of 8 and 16 bits at a fixed place, and behind X; X: four times the low nibble, the length of an IPv4 header.
const LDB = 0x30
const LDH = 0x28
const LDB_X = 0x50
const LDH_X = 0x48
const LDX_HEADER = 0xb1
const JEQ = 0x15
const JGE = 0x35
const RET = 0x06

interface Instruction {
  code: number
  k: number
  /** Where a jump goes; where one is left out it goes on behind itself. */
  yes?: string
  no?: string
}

type Step = Instruction | { label: string }

const label = (name: string): Step => ({ label: name })
const load = (code: number, k: number): Step => ({ code, k })
const when = (k: number, yes: string, no?: string): Step => ({
  code: JEQ,
  k,
  yes,
  ...(no === undefined ? {} : { no }),
})
/** At that place stands a port, or an echo's identifier: is it a probe's? */
const ofProbe = (name: string, code: number, at: number): Step[] => [
  label(name),
  load(code, at),
  { code: JGE, k: PROBE_PORTS.first, yes: 'take', no: 'leave' },
]

const IP = 14
const IP6_PAYLOAD = IP + 40
const FRAGMENT6_BYTES = 8

const STEPS: readonly Step[] = [
  load(LDH, 12),
  when(0x0806, 'arp'),
  when(0x0800, 'ipv4'),
  when(0x86dd, 'ipv6', 'leave'),

  label('arp'),
  load(LDH, IP + 6),
  when(2, 'take', 'leave'),

  label('ipv4'),
  load(LDX_HEADER, IP),
  load(LDB, IP + 9),
  when(6, 'ports'),
  when(17, 'ports'),
  when(1, 'icmp', 'leave'),
  ...ofProbe('ports', LDH_X, IP + 2),
  label('icmp'),
  load(LDB_X, IP),
  when(3, 'take'),
  when(0, 'echo'),
  when(8, 'echo', 'leave'),
  ...ofProbe('echo', LDH_X, IP + 4),

  label('ipv6'),
  load(LDB, IP + 6),
  when(6, 'ports6'),
  when(17, 'ports6'),
  when(58, 'icmp6'),
  when(44, 'fragment6', 'leave'),
  ...ofProbe('ports6', LDH, IP6_PAYLOAD + 2),
  label('icmp6'),
  load(LDB, IP6_PAYLOAD),
  when(136, 'take'),
  when(1, 'take'),
  when(129, 'echo6'),
  when(128, 'echo6', 'leave'),
  ...ofProbe('echo6', LDH, IP6_PAYLOAD + 4),
  label('fragment6'),
  load(LDB, IP6_PAYLOAD),
  when(58, 'fragment6-echo', 'leave'),
  ...ofProbe('fragment6-echo', LDH, IP6_PAYLOAD + FRAGMENT6_BYTES + 4),

  label('take'),
  load(RET, SNAP_BYTES),
  label('leave'),
  load(RET, 0),
]

const assemble = (steps: readonly Step[]): Uint8Array => {
  const places = new Map<string, number>()
  const instructions: Instruction[] = []
  for (const step of steps) {
    if ('label' in step) places.set(step.label, instructions.length)
    else instructions.push(step)
  }
  const bytes = new Uint8Array(8 * instructions.length)
  const view = new DataView(bytes.buffer)
  for (const [i, { code, k, yes, no }] of instructions.entries()) {
    const distance = (to: string | undefined) => (to === undefined ? 0 : (places.get(to) ?? 0) - i - 1)
    view.setUint16(8 * i, code, true)
    view.setUint8(8 * i + 2, distance(yes))
    view.setUint8(8 * i + 3, distance(no))
    view.setUint32(8 * i + 4, k, true)
  }
  return bytes
}

/** Answers to ARP and neighbour solicitations; echoes and segments to the ports of probes; destinations that are unreachable. */
export const probeFilter = (): Uint8Array => assemble(STEPS)
