// SPDX-License-Identifier: Apache-2.0
// The native addon's interface. C++ is mechanism only: it opens, loads, maps, links and asks the kernel; what to do with
// that is decided in TypeScript. Every call is synchronous, but for what a NetlinkMonitor tells. Every failure throws a
// NativeError.
import { createRequire } from 'node:module'

/**
 * What every native call throws: `code` is errno's name (`ENOENT`), `call` the system or libbpf call that failed
 * (`bpf_map__reuse_fd`), `object` what it was applied to (a path, a map's name, an interface). `message` holds all three
 * and strerror's text. `verifierLog` is set where open or load failed and libbpf said why: where the verifier refused a
 * program its log is in it (of more than 1 MiB, the end). libbpf's own failures have codes such as
 * `LIBBPF_ERRNO__FORMAT`. An argument of the wrong type throws a TypeError, a number out of range a RangeError.
 */
export interface NativeError extends Error {
  code: string
  errno: number
  call: string
  object: string
  verifierLog?: string
}

export interface MapInfo {
  id: number
  name: string
  /** enum bpf_map_type of linux/bpf.h. */
  type: number
  keySize: number
  valueSize: number
  maxEntries: number
  /** BPF_F_* bits. */
  flags: number
}

/** A BPF map held by file descriptor. Keys and values are raw bytes in the layout of bpf/xlb.h. */
export interface BpfMap {
  readonly info: MapInfo
  /** The value; for a per-CPU map the values of all possible CPUs, each rounded up to 8 bytes. Undefined: no such key. */
  lookup(key: Uint8Array): Buffer | undefined
  /** flags: BPF_ANY 0, BPF_NOEXIST 1, BPF_EXIST 2. */
  update(key: Uint8Array, value: Uint8Array, flags?: number): void
  /** False: there was no such key. */
  delete(key: Uint8Array): boolean
  /** BPF_MAP_LOOKUP_BATCH over the whole map: keys and values of `count` elements, packed one after another. */
  lookupBatch(): { count: number; keys: Buffer; values: Buffer }
  /** BPF_MAP_UPDATE_BATCH; both buffers hold `count` packed elements. */
  updateBatch(keys: Uint8Array, values: Uint8Array, count: number): void
  /**
   * The memory of a BPF_F_MMAPABLE array, shared with the kernel, read-write: element i starts at i * stride, where
   * stride is valueSize rounded up to 8. One mapping per map: a second call answers the same buffer. The buffer keeps the
   * mapping alive by itself, also after close(); unmap(), before close(), ends it early and leaves the buffer detached
   * (length 0).
   */
  mmap(): ArrayBuffer
  /**
   * `length` octets of that memory from `offset` on, a multiple of the page size; mapped anew by each call, and likewise
   * ended by unmap().
   */
  mmapPart(offset: number, length: number): ArrayBuffer
  unmap(): void
  pin(path: string): void
  /** Idempotent. Any later use throws EBADF. */
  close(): void
}

export interface ProgramInfo {
  id: number
  name: string
  /** Hex digest of the instructions as they were loaded, without maps and what of a map they read: see instructions(). */
  tag: string
  /** When it was loaded, in nanoseconds since boot (CLOCK_BOOTTIME). */
  loadedNs: bigint
  jitedBytes: number
  runCount: bigint
  runTimeNs: bigint
}

export interface RunOptions {
  /** The frame. Absent for SEC("syscall") programs. */
  data?: Uint8Array
  /** struct xdp_md for XDP (data 0, data_end = frame length, ingress_ifindex as wanted), the argument of a syscall program. */
  context?: Uint8Array
  /** Times to run, 1 if absent. `durationNs` is then the mean of one run. */
  repeat?: number
  /** BPF_F_TEST_XDP_LIVE_FRAMES: frames really leave by their verdict; `batchSize` frames a NAPI-like batch. */
  liveFrames?: boolean
  batchSize?: number
}

export interface RunResult {
  /** The program's verdict (XDP_DROP 1, XDP_PASS 2, XDP_TX 3, XDP_REDIRECT 4). */
  returned: number
  durationNs: number
  /** The frame as the program left it. Empty with liveFrames. */
  data: Buffer
  /** The context as the program left it, where one was given. */
  context: Buffer
}

/** A loaded BPF program held by file descriptor. */
export interface BpfProgram {
  readonly info: ProgramInfo
  /**
   * The instructions as the verifier left them, subprograms included. Two programs of one boot are the same where these are:
   * they tell what tags leave out, which maps they read (by id) and where.
   */
  instructions(): Buffer
  /** BPF_PROG_TEST_RUN. */
  run(options: RunOptions): RunResult
  pin(path: string): void
  close(): void
}

export interface LinkInfo {
  id: number
  programId: number
  /** The interface it is attached to; 0 where that interface is gone (the link is then defunct). */
  ifindex: number
}

/** An XDP bpf_link. Closing an unpinned link detaches it, and so does the collector when nothing refers to it. */
export interface BpfLink {
  readonly info: LinkInfo
  /** BPF_LINK_UPDATE: replaces the program in one step, no packet sees none. */
  update(program: BpfProgram): void
  pin(path: string): void
  /** BPF_LINK_DETACH: ends the attachment at once, also where the link is pinned. */
  detach(): void
  close(): void
}

/** The reading end of a BPF_MAP_TYPE_RINGBUF; a ring has one reader at a time. */
export interface BpfRing {
  /**
   * Takes records out, oldest first, until there are none or `bytes` octets are reached; empty: there are none. Each is its
   * length (64 bits), its octets, and octets that make its length a multiple of 8.
   */
  read(bytes: number): Buffer
  close(): void
}

/** A packet socket (AF_PACKET) of all interfaces. What XDP drops, sends on or redirects never comes to it. */
export interface RawSocket {
  /** Sends one frame, from its destination MAC on. */
  send(ifindex: number, frame: Uint8Array): void
  /**
   * Waits until there is a frame, `waitMs` (up to 10,000) at most, then takes those that are there, `most` (up to 65,536) at most.
   * Each is the interface that it came in by (32 bits), its length (32 bits), its octets as far as the filter wants them, 2,048 at
   * most, and octets that make its length a multiple of 8. A VLAN tag is taken off.
   */
  read(waitMs: number, most: number): Buffer
  close(): void
}

/** A BPF object file: open, then set, then load. After load() its maps and programs can be taken. */
export interface BpfObject {
  readonly mapNames: string[]
  readonly programNames: string[]
  setMaxEntries(map: string, maxEntries: number): void
  /**
   * The map is not created: `map` takes its place. Throws EINVAL where the layouts differ; only for a section of global
   * variables (`.data.NAME`) may the map's value be larger than the section.
   */
  reuseMap(name: string, map: BpfMap): void
  /** Sets a `const volatile` variable of .rodata by its name; `value` has its exact size. Throws ENOENT for an unknown name. */
  setConstant(name: string, value: Uint8Array): void
  /**
   * Every arithmetic instruction with the constant `placeholder` gets the low 32 bits of `value` instead, or all 64 where
   * it loads 64 bits: what is known when a program is loaded costs no load from memory then (bpf/config.h).
   */
  fillPlaceholder(placeholder: number, value: bigint): void
  /** Leaves a program out of load(). */
  setAutoload(program: string, autoload: boolean): void
  /** BPF_F_XDP_HAS_FRAGS, as SEC("xdp.frags") has it: the program takes frames of several buffers too. */
  setMultiBuffer(program: string): void
  /** The verifier's log is in the error's verifierLog where a program is refused. */
  load(): void
  map(name: string): BpfMap
  program(name: string): BpfProgram
  /** Closes the object. Maps and programs taken from it live on. */
  close(): void
}

/** RTM_NEWLINK, read. */
export interface Interface {
  ifindex: number
  name: string
  /** `02:00:00:00:00:01`, '' where the device has none; all zeros for loopback. */
  mac: string
  mtu: number
  /** IFLA_INFO_KIND: `veth`, `vlan`, `bond`, `bridge`, ... or '' for hardware and loopback. */
  kind: string
  /** Of a VLAN device its VLAN, else 0. */
  vlan: number
  /** It is a VLAN device of the provider's kind, 802.1ad. */
  vlanOfProvider: boolean
  up: boolean
  /** IFF_LOOPBACK. */
  loopback: boolean
  /** IFLA_PROMISCUITY is above 0: set by hand, by a bridge or by a capture. */
  promiscuous: boolean
  /** IFLA_MASTER, 0 where none. */
  master: number
  /** IFLA_LINK: a veth's peer, a VLAN's parent; 0 where none. */
  link: number
  /** IFLA_LINK_NETNSID where that link lives in another network namespace, else -1. */
  linkNetnsId: number
  rxQueues: number
  txQueues: number
  /** IFLA_XDP_ATTACHED: none, native (driver), generic (skb), offloaded, multi. */
  xdpMode: 'none' | 'native' | 'generic' | 'offloaded' | 'multi'
  /** IFLA_XDP_PROG_ID, 0 where none. */
  xdpProgramId: number
}

/** enum netdev_xdp_act of linux/netdev.h. */
export const XdpFeature = {
  /** XDP_DROP, XDP_PASS, XDP_TX. */
  BASIC: 1,
  /** Takes frames that are redirected to it. */
  TRANSMIT: 4,
  /** Gives frames of several buffers to programs that take them (SEC("xdp.frags")). */
  MULTI_BUFFER: 32,
  /** Takes such frames that are redirected to it. */
  TRANSMIT_MULTI_BUFFER: 64,
} as const

/** RTM_NEWADDR, read. */
export interface InterfaceAddress {
  ifindex: number
  /** Text form (`192.0.2.1`, `2001:db8::1`). */
  address: string
  prefixLength: number
}

/** The answer to RTM_GETROUTE for one destination. */
export interface Route {
  /** local: the destination is this host. */
  type: 'unicast' | 'local' | 'broadcast' | 'multicast' | 'blackhole' | 'unreachable' | 'prohibit' | 'other'
  ifindex: number
  /** '' where the destination is on the link. */
  gateway: string
  /** The preferred source address, '' where none. */
  source: string
}

/** RTM_NEWNEIGH, read. */
export interface Neighbour {
  ifindex: number
  address: string
  /** '' while unresolved. */
  mac: string
  /** NUD_* bits: INCOMPLETE 1, REACHABLE 2, STALE 4, DELAY 8, PROBE 16, FAILED 32, NOARP 64, PERMANENT 128. */
  state: number
  /** NTF_EXT_MANAGED is set. */
  managed: boolean
}

/** RTM_NEWROUTE, read as it is told: the routes of all tables. */
export interface TableRoute {
  /** `0.0.0.0` or `::` of a default route. */
  destination: string
  prefixLength: number
  type: Route['type']
  /** RT_TABLE_*: main 254, local 255. */
  table: number
  /** Of its only hop; 0 where there is none, or several. */
  ifindex: number
  /** '' where its destinations are on the link, or there are several hops. */
  gateway: string
}

/**
 * A change that the kernel tells of: what is there now, or, where it is `deleted`, what was. An IPv4 route that goes because its
 * interface does, or goes down, is not told: the link is. `overrun`: more was told than the socket had room for, and is lost.
 */
export type NetlinkEvent =
  | { kind: 'neighbour'; deleted: boolean; neighbour: Neighbour }
  | { kind: 'link'; deleted: boolean; link: Interface }
  | { kind: 'address'; deleted: boolean; address: InterfaceAddress }
  | { kind: 'route'; deleted: boolean; route: TableRoute }
  | { kind: 'overrun' }

/** A subscription. It keeps the process running unless unref() is called. */
export interface NetlinkMonitor {
  /** The listener is not called again. Idempotent. */
  close(): void
  ref(): void
  unref(): void
}

export interface Netlink {
  interfaces(): Interface[]
  /** One interface of the namespace that `netnsId` names from here (IFLA_TARGET_NETNSID); -1: this one. Undefined: none. */
  interfaceByIndex(ifindex: number, netnsId: number): Interface | undefined
  /**
   * What XDP can do there now: XdpFeature bits. Undefined: there is no such interface, or the kernel does not tell
   * (before 6.3).
   */
  xdpFeatures(ifindex: number): number | undefined
  addresses(): InterfaceAddress[]
  /** Throws ENETUNREACH or the like where there is no route. */
  route(address: string): Route
  /** All neighbours of one family (AF_INET 2, AF_INET6 10). */
  neighbours(family: 2 | 10): Neighbour[]
  /** Creates the entry if need be, with NTF_EXT_MANAGED: the kernel resolves it now and keeps it resolved. */
  manageNeighbour(ifindex: number, address: string): void
  /** RTM_DELNEIGH; false: there was none. */
  deleteNeighbour(ifindex: number, address: string): boolean
  /**
   * Calls `listener` from Node's loop with what has changed since its last call, in the order of the changes; never before this
   * returns. What it throws is an uncaught exception.
   *
   * @param receiveBytes room for what the kernel tells while JavaScript is at work (SO_RCVBUFFORCE); 4 MiB if absent
   */
  monitor(listener: (events: NetlinkEvent[]) => void, receiveBytes?: number): NetlinkMonitor
}

export interface System {
  /**
   * flock(LOCK_EX | LOCK_NB) on the file, created 0600 if absent (by root for the owner of its folder); no link is followed. Answers a descriptor that holds the lock until
   * unlock() or the process's end; -1 where another holds it.
   */
  tryLock(path: string): number
  unlock(descriptor: number): void
  /** membarrier(MEMBARRIER_CMD_GLOBAL): returns after every BPF program that was running when it was called has ended. */
  waitForPrograms(): void
  /** mount("bpf", path, "bpf", ...). */
  mountBpf(path: string): void
  /** True where `path` lies on a bpf file system (statfs f_type BPF_FS_MAGIC). */
  isBpfFileSystem(path: string): boolean
  /** renameat2(RENAME_EXCHANGE). */
  exchange(a: string, b: string): void
  /** The kernel's HZ, from clock_getres(CLOCK_MONOTONIC_COARSE). */
  jiffiesPerSecond(): number
  /** libbpf_num_possible_cpus(). */
  possibleCpus(): number
  /**
   * One datagram to the Unix socket at `path`; an abstract one's name begins with `@` (unix(7)). Throws ECONNREFUSED or ENOENT where
   * nobody listens, EAGAIN where the receiver does not keep up.
   */
  sendDatagram(path: string, text: string): void
  /** ETHTOOL_GFEATURES by the kernel's names (`rx-lro`, `rx-gro`, `rx-gro-hw`, `rx-vlan-hw-parse`, ...): is it on. */
  deviceFeatures(interfaceName: string): Record<string, boolean>
  /** ETHTOOL_GDRVINFO's driver name, '' where the device has none. */
  deviceDriver(interfaceName: string): string
  /** ETHTOOL_GCHANNELS: rx + combined channels in use, 0 where the device does not say. */
  deviceReceiveChannels(interfaceName: string): number
  /** Runs this thread on one CPU only (sched_setaffinity); -1 lifts it again. */
  pinToCpu(cpu: number): void
}

/** The addon. `openX` take pins in bpffs. */
export interface Native {
  openObject(path: string): BpfObject
  openMap(path: string): BpfMap
  /** BPF_MAP_CREATE. `name` has at most 15 characters; type and flags are enum bpf_map_type and BPF_F_* of linux/bpf.h. */
  createMap(name: string, type: number, keySize: number, valueSize: number, maxEntries: number, flags: number): BpfMap
  openProgram(path: string): BpfProgram
  /** BPF_PROG_GET_FD_BY_ID. Throws ENOENT where no program has this id, EPERM without CAP_SYS_ADMIN. */
  openProgramById(id: number): BpfProgram
  openLink(path: string): BpfLink
  /** Maps the ring for reading (ring_buffer__new). The map may be closed then. */
  openRing(map: BpfMap): BpfRing
  /**
   * A packet socket that hears of all frames that come in those which `filter` takes: instructions of classic BPF (struct
   * sock_filter), which answer how many octets. What goes out it does not hear.
   */
  openRawSocket(filter: Uint8Array): RawSocket
  /** BPF_LINK_CREATE for XDP. Throws EBUSY where another program is attached, EOPNOTSUPP where the driver has no native XDP. */
  attachXdp(program: BpfProgram, ifindex: number, mode: 'native' | 'generic'): BpfLink
  /** BPF_PROG_GET_FD_BY_ID, then its info. Undefined: no such program. */
  programInfo(id: number): ProgramInfo | undefined
  netlink: Netlink
  system: System
  /** Handles and mappings that are open now, for leak tests. */
  openHandles(): {
    objects: number
    maps: number
    programs: number
    links: number
    rings: number
    monitors: number
    rawSockets: number
    mappings: number
    mappedBytes: number
  }
}

/** Loads the addon built by `npm run build:native`. */
export const loadNative = (): Native => createRequire(import.meta.url)('../../build/native/xlb.node') as Native
