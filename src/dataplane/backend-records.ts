// SPDX-License-Identifier: Apache-2.0
// What the maps hold of each backend - what packets go by, and what a person said -, written and read.
import { type Admin, type Backend, effectiveWeight, isAlive, type Path, type Service } from '../core/desired.ts'
import { type AddressKey, AF, familyOf, readAddress, readAddressKey, writeAddress } from '../core/ip.ts'
import { reopensAt } from '../core/max-conns.ts'
import {
  AdminState,
  BackendDetail,
  BackendFlag,
  Backend as BackendRecord,
  BackendWord,
  ConnectionLimit,
  HealthState,
  type Service as ServiceRecord,
  VlanChoice,
} from './layout.gen.ts'
import type { PlaneMemory } from './memory.ts'
import { viewOf } from './views.ts'

/** A backend as it stands in the maps. `index` is its index within the service, `counter` that of its counters. */
export interface LiveBackend {
  index: number
  counter: number
  sinceMs: number
  want: Backend
}

/** A backend that has its place, and is yet to be written. */
export interface Placed {
  index: number
  counter: number
  want: Backend
  sinceMs: number
}

export const ADMIN_STATES: Readonly<Record<Admin, number>> = {
  up: AdminState.ADMIN_UP,
  drain: AdminState.ADMIN_DRAIN,
  maint: AdminState.ADMIN_MAINT,
  leaving: AdminState.ADMIN_LEAVING,
  cut: AdminState.ADMIN_CUT,
}
const ADMINS = new Map(Object.entries(ADMIN_STATES).map(([admin, state]) => [state, admin as Admin]))

/** struct backend's word. */
const wordOf = (backend: Backend): bigint => {
  const { path, admin } = backend
  const takes = admin === 'cut' ? BackendFlag.BACKEND_CUT : isAlive(backend) ? BackendFlag.BACKEND_ALIVE : 0
  switch (path.kind) {
    case 'link':
      return (
        (path.mac << BigInt(BackendWord.BACKEND_MAC_SHIFT)) |
        (BigInt(path.interfaceSlot) << BigInt(BackendWord.BACKEND_INTERFACE_SHIFT)) |
        BigInt(takes | (path.vlan === undefined ? 0 : BackendFlag.BACKEND_TAGGED))
      )
    case 'local':
      return BigInt(takes | BackendFlag.BACKEND_LOCAL)
    case 'unresolved':
      return admin === 'cut' ? BigInt(takes) : 0n
  }
}

/** Of enum admin_state; one that was removed is up to nobody any more. */
export const adminOf = (state: number): Admin => ADMINS.get(state) ?? 'up'

const pathOf = (word: bigint, vlan: number): Path => {
  const flags = Number(word & BigInt(BackendWord.BACKEND_FLAGS_MASK))
  if ((flags & BackendFlag.BACKEND_LOCAL) !== 0) return { kind: 'local' }
  const mac = word >> BigInt(BackendWord.BACKEND_MAC_SHIFT)
  if ((flags & BackendFlag.BACKEND_ALIVE) === 0 && mac === 0n) return { kind: 'unresolved', why: 'its MAC is unknown' }
  const interfaceSlot = Number((word >> BigInt(BackendWord.BACKEND_INTERFACE_SHIFT)) & 0xffn)
  const tagged = (flags & BackendFlag.BACKEND_TAGGED) !== 0
  return { kind: 'link', mac, interfaceSlot, ...(tagged ? { vlan } : {}) }
}

/** struct backend_detail's choice; nothing of it where the route decides. */
const vlanOf = (choice: number): Pick<Backend, 'vlan'> => {
  if (choice === VlanChoice.VLAN_BY_ROUTE) return {}
  return { vlan: choice === VlanChoice.VLAN_NONE ? 'none' : choice }
}

/** Nothing of it where there is no limit. */
const maxConnsOf = (details: DataView, at: number): Pick<Backend, 'maxConns'> => {
  const upper = details.getUint32(at + BackendDetail.offset.upper, true)
  return upper === 0 ? {} : { maxConns: { upper, lower: details.getUint32(at + BackendDetail.offset.lower, true) } }
}

/** Nothing of it where nobody has found out anything. */
const healthOf = (details: DataView, at: number): Pick<Backend, 'health'> => {
  const state = details.getUint8(at + BackendDetail.offset.health)
  if (state === HealthState.HEALTH_UNSAID) return {}
  const alive = state === HealthState.HEALTH_ALIVE
  const percent = details.getUint8(at + BackendDetail.offset.healthPercent)
  return { health: { alive, percent, sinceMs: details.getUint32(at + BackendDetail.offset.healthSince, true) * 1000 } }
}

/** Field by field, over zeros: the codec makes an array of each address, and a restore writes a hundred thousand. */
const writeDetail = (view: DataView, at: number, want: Backend, admin: number, sinceMs: number): void => {
  const { offset } = BackendDetail
  writeAddress(view, at + offset.address, want.address)
  view.setUint16(at + offset.port, want.port)
  view.setUint8(at + offset.family, AF[familyOf(want.address)])
  view.setUint8(at + offset.admin, admin)
  view.setUint32(at + offset.weight, want.weight, true)
  view.setUint16(at + offset.vlan, want.vlan === 'none' ? VlanChoice.VLAN_NONE : (want.vlan ?? 0), true)
  view.setBigUint64(at + offset.sinceMs, BigInt(sinceMs), true)
  view.setUint32(at + offset.upper, want.maxConns?.upper ?? 0, true)
  view.setUint32(at + offset.lower, want.maxConns?.lower ?? 0, true)
  const { health } = want
  if (health === undefined) return
  view.setUint8(at + offset.health, health.alive ? HealthState.HEALTH_ALIVE : HealthState.HEALTH_DOWN)
  view.setUint8(at + offset.healthPercent, health.percent)
  view.setUint32(at + offset.healthSince, Math.floor(health.sinceMs / 1000), true)
}

export const writeBackends = (
  memory: PlaneMemory,
  service: Service,
  base: number,
  count: number,
  placed: readonly Placed[],
): void => {
  const records = viewOf(memory, 'backends')
  const details = viewOf(memory, 'backend_details')
  new Uint8Array(memory.buffer('backends'), base * BackendRecord.size, count * BackendRecord.size).fill(0)
  new Uint8Array(memory.buffer('backend_details'), base * BackendDetail.size, count * BackendDetail.size).fill(0)
  const limits = viewOf(memory, 'connection_limits')
  for (const { index, counter, want, sinceMs } of placed) {
    const { maxConns } = want
    ConnectionLimit.write(limits, (base + index) * ConnectionLimit.size, {
      upper: maxConns?.upper ?? 0,
      reopens: maxConns === undefined ? 0 : reopensAt(maxConns),
    })
    BackendRecord.write(records, (base + index) * BackendRecord.size, {
      word: wordOf(want),
      counter,
      vlan: want.path.kind === 'link' ? (want.path.vlan ?? 0) : 0,
      weight: effectiveWeight(service, want),
    })
    writeDetail(details, (base + index) * BackendDetail.size, want, ADMIN_STATES[want.admin], sinceMs)
  }
}

export const readBackends = (
  views: { backends: DataView; details: DataView },
  service: ServiceRecord,
): LiveBackend[] => {
  const backends: LiveBackend[] = []
  for (let index = 0; index < service.backendCount; index++) {
    const at = (service.backendBase + index) * BackendRecord.size
    const detailAt = (service.backendBase + index) * BackendDetail.size
    const { details } = views
    const admin = details.getUint8(detailAt + BackendDetail.offset.admin)
    if (admin === AdminState.ADMIN_REMOVED) continue
    const word = views.backends.getBigUint64(at + BackendRecord.offset.word, true)
    backends.push({
      index,
      counter: views.backends.getUint32(at + BackendRecord.offset.counter, true),
      sinceMs: Number(details.getBigUint64(detailAt + BackendDetail.offset.sinceMs, true)),
      want: {
        address: readAddress(
          details,
          detailAt + BackendDetail.offset.address,
          details.getUint8(detailAt + BackendDetail.offset.family),
        ),
        port: details.getUint16(detailAt + BackendDetail.offset.port),
        weight: details.getUint32(detailAt + BackendDetail.offset.weight, true),
        admin: adminOf(admin),
        ...vlanOf(details.getUint16(detailAt + BackendDetail.offset.vlan, true)),
        ...maxConnsOf(details, detailAt),
        ...healthOf(details, detailAt),
        path: pathOf(word, views.backends.getUint16(at + BackendRecord.offset.vlan, true)),
      },
    })
  }
  return backends
}

/** What packets go by of every backend, without making an object of each. */
export interface BackendScan {
  name: string
  /** Within the service. */
  index: number
  address: AddressKey
  /** Octets of the MAC as struct backend holds them: the first four, the other two. */
  macLow: number
  macHigh: number
  flags: number
  /** It is reached through `interfaceSlot`, or would be if it were alive. */
  isLink: boolean
  interfaceSlot: number
  /** 0: untagged. */
  vlan: number
  counter: number
  /** As configured. */
  weight: number
  /** What schedulers go by. */
  effectiveWeight: number
  /** enum admin_state */
  admin: number
  /** Of its health; true and 100 where nobody has found out anything. */
  alive: boolean
  percent: number
}

/** Calls `visit` for every backend that was not removed, of every live service; the object it gets is the same each time. */
export const scanBackends = (
  memory: PlaneMemory,
  live: { services: ReadonlyMap<string, { name: string; service: ServiceRecord }> },
  visit: (backend: BackendScan) => void,
): void => {
  const words = new Uint32Array(memory.buffer('backends'))
  const records = viewOf(memory, 'backends')
  const details = viewOf(memory, 'backend_details')
  const scan: BackendScan = {
    name: '',
    index: 0,
    address: 0,
    macLow: 0,
    macHigh: 0,
    flags: 0,
    isLink: false,
    interfaceSlot: 0,
    vlan: 0,
    counter: 0,
    weight: 0,
    effectiveWeight: 0,
    admin: 0,
    alive: true,
    percent: 100,
  }
  const { BACKEND_CUT, BACKEND_LOCAL, BACKEND_TAGGED } = BackendFlag
  for (const { name, service } of live.services.values()) {
    scan.name = name
    const end = service.backendBase + service.backendCount
    for (let record = service.backendBase; record < end; record++) {
      const detailAt = record * BackendDetail.size
      scan.admin = details.getUint8(detailAt + BackendDetail.offset.admin)
      if (scan.admin === AdminState.ADMIN_REMOVED) continue
      const at = (record * BackendRecord.size) / 4
      scan.index = record - service.backendBase
      scan.weight = details.getUint32(detailAt + BackendDetail.offset.weight, true)
      scan.address = readAddressKey(
        details,
        detailAt + BackendDetail.offset.address,
        details.getUint8(detailAt + BackendDetail.offset.family),
      )
      const low = words[at] ?? 0
      const high = words[at + 1] ?? 0
      scan.macLow = ((low >>> 16) | (high << 16)) >>> 0
      scan.macHigh = high >>> 16
      scan.flags = low & BackendWord.BACKEND_FLAGS_MASK
      // One that is not alive has its MAC for when it is again.
      scan.isLink = (scan.flags & (BACKEND_CUT | BACKEND_LOCAL)) === 0 && (scan.macLow | scan.macHigh) !== 0
      scan.vlan = (scan.flags & BACKEND_TAGGED) === 0 ? 0 : (words[at + BackendRecord.offset.vlan / 4] ?? 0) & 0xffff
      scan.interfaceSlot = (low >>> BackendWord.BACKEND_INTERFACE_SHIFT) & 0xff
      scan.counter = words[at + BackendRecord.offset.counter / 4] ?? 0
      scan.effectiveWeight = records.getUint16(4 * at + BackendRecord.offset.weight, true)
      const health = details.getUint8(detailAt + BackendDetail.offset.health)
      const isSaid = health !== HealthState.HEALTH_UNSAID
      scan.alive = health !== HealthState.HEALTH_DOWN
      scan.percent = isSaid ? details.getUint8(detailAt + BackendDetail.offset.healthPercent) : 100
      visit(scan)
    }
  }
}
