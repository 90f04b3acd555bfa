/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The contract between the packet path (bpf/) and the controller (src/): the layout of every table stands here and
 * nowhere else. scripts/generate.ts reads this file's BTF and writes src/dataplane/layout.gen.ts from it.
 *
 * Suffix _be: network byte order. All else is the host's, which is little-endian (bpfel) on every supported machine.
 *
 * How a packet reads these maps:
 *
 *   root.live -> directory -> the VIP's bucket -> service -> ring slot -> backend -> frame
 *
 * How a change is committed: everything new is written where no live pointer leads (services, ring lines, backends, the
 * directory that is not live); then one aligned store - a target's `service`, or root.live - makes it what packets see.
 */
#ifndef XLB_H
#define XLB_H

#include <linux/types.h>

/* Raised whenever a layout below changes its meaning: programs and pinned maps of different versions are never mixed.
 */
enum contract { CONTRACT_VERSION = 5 };

/* ---- constants: known when a program is loaded, never changed after; bpf/config.h says how they get into it ---- */

enum constant {
	CONSTANT_FIRST = 0x786c6200,
	CONSTANT_OWN_INTERFACE = CONSTANT_FIRST, /* octets from the start of root to its own record */
	CONSTANT_OWN_PATH,         /* the lower 16 bits of the word of a backend that is reached by its own interface */
	CONSTANT_OWN_SLOT,         /* that interface's record, by number */
	CONSTANT_COUNTERS_PER_CPU, /* that each CPU has in `counters` */
	CONSTANT_DIRECTORY_BUCKETS, /* of one of the two directories' tables: a power of two, at least 64 */
	CONSTANT_AGE_SHIFT,         /* the packet path's clock is jiffies >> this: about a second */
	CONSTANT_FLOW_SEED,         /* the one of 64 bits */
	/* Elements of each table of bpf/maps.h, by its name, less one: a power of two less one. Of rings: slots. */
	CONSTANT_MASK_vip_buckets,
	CONSTANT_MASK_service_buckets,
	CONSTANT_MASK_vip6_buckets,
	CONSTANT_MASK_range_targets,
	CONSTANT_MASK_services,
	CONSTANT_MASK_service_policies,
	CONSTANT_MASK_rings,
	CONSTANT_MASK_backends,
	CONSTANT_MASK_flows,
	CONSTANT_MASK_flows6,
	CONSTANT_MASK_prefix_flows6,
	CONSTANT_MASK_fragments,
	CONSTANT_MASK_clients,
	CONSTANT_MASK_destinations,
	CONSTANT_MASK_cpus,
	CONSTANT_MASK_counters,
	CONSTANT_MASK_flow_changes,
	CONSTANT_MASK_cursors,
	CONSTANT_MASK_filters,
	CONSTANT_MASK_filter_bounds,
	CONSTANT_MASK_source_rates,
	CONSTANT_MASK_connection_limits,
	CONSTANT_MASK_backend_runs,
	CONSTANT_MASK_connections,
	CONSTANT_END,
};

/*
 * ---- interfaces: a record in root for each that the program is attached to, and for each other one that leads to
 * backends ----
 */

enum interface_limit { INTERFACES_MAX = 64, INTERFACE_NAME_SIZE = 16 };

enum interface_role {
	INTERFACE_ATTACHED,
	INTERFACE_EGRESS, /* without a program; the slot is in use while a live backend leads to it */
};

struct interface {
	__u64 mac_high; /* the MAC in bits 16-63, as loaded from a frame: its first octet lowest; 0: slot unused */
	__u32 ifindex;
	__u8 generic;      /* 1: attached in generic (skb) mode */
	__u8 role;         /* enum interface_role; whoever has a pinned link is attached, whatever stands here */
	__u8 multi_buffer; /* 1: its program takes frames of several buffers */
	__u8 reserved;
	char name[INTERFACE_NAME_SIZE];
};

/* ---- root: one record. Which of the two directories packets use, and how to search it ---- */

/*
 * A directory is two open-addressed tables of buckets in which the controller has placed every key so that no bucket
 * overflows; it draws multipliers until that holds.
 *
 * - vip_buckets is searched by address alone, at (address * live >> shift) + base, where the word root.live is itself
 * the multiplier, its lowest bits the shift, and one bit of it tells which half of the table base is. Each VIP has at
 * least one target there: so one look says whether an address is a VIP, and, for most, which service a port is.
 * - service_buckets holds what found no place in its VIP's bucket, at service_base + (key * service_multiplier >>
 * shift).
 *
 * A packet looks for its port first. If that is no service, it looks for the ranges of its VIP and protocol, whose key
 * (enum service_key) leads to a run of range_targets, sorted by port; and then for the service of every port. Each of
 * the three stands in its VIP's bucket, or in service_buckets; the flags of the VIP's targets say what there is to be
 * found. Half of each table belongs to either directory.
 *
 * An IPv6 VIP does not fit a key. vip6_buckets says of 128 bits whether they are one, and where it stands there is its
 * handle: 32 bits, which take an IPv4 VIP's place in everything above.
 *
 * A prefix of IPv4 addresses is 32 bits too: its address, and the first bit behind it set (192.0.2.0/24 as
 * 192.0.2.128). So each prefix has a number of its own, and bit 58 of the key says that it is no address. What is for
 * no VIP is asked for among prefixes, one look for each length that there is, the longest first. Of IPv6 likewise
 * (2001:db8:5::/64 as 2001:db8:5:0:8000::): that number stands in vip6_buckets, and its handle in the key, with bits 57
 * and 58. It may be a VIP's address too, which then has the same handle, and a key without bit 58.
 */
struct directory {
	__u64 vip6; /* how to search vip6_buckets: as root.live says it of vip_buckets */
	__u64 service_multiplier;
	__u32 service_base;
	__u32 service_shift;
	/* These two are here so that the store that commits the services commits them too. */
	__u32 filter;    /* index into filters, of that of all services; 0: none */
	__u32 new_flows; /* new tracked flows that a CPU may record in one unit of age */
	__u32 prefixes;  /* for each length of a prefix the bit behind it: 0x80 where there are prefixes of 24 bits */
	__u32 reserved;
	__u64 prefixes6_high; /* likewise, of IPv6: of the first 64 bits, */
	__u64 prefixes6_low;  /* and of the others: bit 63 where there are prefixes of 64 bits */
};

enum prefix_limit { PREFIX_BITS_MIN = 8, PREFIX_BITS_MAX = 31, PREFIX6_BITS_MIN = 16, PREFIX6_BITS_MAX = 127 };

enum vip6_limit { VIP6_PER_BUCKET = 4 };

/* An IPv6 address as two words, each as it is loaded from a frame. */
struct address6 {
	__u64 high; /* the first eight octets */
	__u64 low;
};

/* The unspecified address is a free place. */
struct vip6_bucket {
	struct address6 vip[VIP6_PER_BUCKET];
};

/*
 * The handle of place `index` of vip6_buckets (all buckets' places in a row, both halves): (index + 1) << HANDLE_SHIFT,
 * as an address is loaded from a frame. So it is in 0.0.0.0/8, where no VIP can be: an IPv4 packet for an address there
 * is for none.
 */
enum handle { HANDLE_SHIFT = 8, HANDLES_MAX = 1 << 23 };

/*
 * root.live. One store of it commits `restore`, `clear`, `service add` and `service rm`. The bit that is worth
 * CONSTANT_DIRECTORY_BUCKETS (which is less than LIVE_PREFIXES) is set where directory[1] is live; all bits but these
 * are drawn at random.
 */
enum live {
	LIVE_SHIFT_MASK = 0x3f,  /* bits 0-5: 64 - log2(buckets) */
	LIVE_PREFIXES = 1 << 30, /* there are prefixes, of whatever family */
};

struct root {
	__u64 live;
	__u64 neighbours_ms; /* Unix time at which a verb last compared all MACs with the kernel's neighbour table */
	__u32 contract;
	__u32 swept; /* services whose entries are to be freed when they expire (RUN_SWEPT) */
	struct directory directory[2];
	__u64 forwarded_before; /* packets of backends that are gone, and whose counters others have */
	__u64 reserved_words[2];
	struct interface interface[INTERFACES_MAX];
};

/*
 * A service's key is one word: VIP (network order) in bits 0-31, port (network order) in 32-47, IP protocol in 48-55.
 * Port 0 is the service of every port. With bit 56, which no packet's key has, and port 0, it is the key of the run of
 * a VIP's ranges. Bit 57: bits 0-31 are the handle of an IPv6 VIP. Bit 58: they are a prefix, with bit 57 an IPv6 one's
 * handle. 0 is a free place.
 */
enum service_key {
	KEY_PORT_SHIFT = 32,
	KEY_PROTOCOL_SHIFT = 48,
	KEY_RUN_SHIFT = 56,
	KEY_IPV6_SHIFT = 57,
	KEY_PREFIX_SHIFT = 58,
};

/* On each target of a VIP in the first table: what is to be looked for beyond the port's own target there. */
enum target_flag {
	TARGET_MORE = 1,        /* this VIP has keys in the second table too */
	TARGET_RANGES = 2,      /* there are services of a range of its ports */
	TARGET_EVERY_PORT = 4,  /* there is a service of every port */
	TARGET_DIRECTORY_1 = 8, /* it belongs to directory[1]: what is live may have changed since a packet came here */
};

struct target {
	__u64 key;
	/* These two are here, and not in the service, so that a packet's hash need not wait for that. */
	__u64 ring_seed;
	/* What of a packet's source is hashed: the lowest bits, as many as enum hashed_bits says; or
	 * HASHED_DESTINATION.
	 */
	__u64 hash_mask;
	__u32 service;   /* index into services; writing it commits a change of one service */
	__u16 flags;     /* enum target_flag */
	__u16 last_port; /* host order; of a service of one port that one, of every port 65535 */
};

/*
 * Takes a target's place where the key has bit 56: the ranges of a VIP and protocol are range_targets[first] to [first
 * + count - 1], in ascending order of ports; no two of them have a port in common. The key of each has its first port.
 */
struct run {
	__u64 key;
	__u64 count; /* 1 to RANGES_PER_RUN_MAX */
	__u64 reserved;
	__u32 first;
	__u16 flags; /* as a target's */
	__u16 reserved_tail;
};

enum run_limit { RANGES_PER_RUN_MAX = 256 };

/*
 * A packet's source is one word: the address in bits 0-31, the port in 32-47. Of IPv6 the
 * address is always hashed (bpf/hash.h: hash_source6), and these say whether the port is too.
 */
enum hashed_bits { HASHED_SOURCE = 32, HASHED_SOURCE_PORT = 48 };

/* In the place of a mask: not the source is hashed, but the destination address. Of prefixes' services alone. */
#define HASHED_DESTINATION (1ULL << 63)

enum bucket_limit { TARGETS_PER_BUCKET = 4 };

/* Of vip_buckets and of service_buckets. */
struct target_bucket {
	struct target target[TARGETS_PER_BUCKET];
};

/* ---- services. What a packet needs of one service: a cache line ---- */

enum service_flag {
	SERVICE_TRACKED = 1, /* the flow table names the backend (rr, wrr, lc, ...); else the ring does (mh, sh) */
	SERVICE_LOCAL = 2,   /* this director is one of its backends */
	SERVICE_UDP = 4,
	SERVICE_MARKED = 8,            /* some slots of the ring are marked; the ring before them is at before_line */
	SERVICE_BEFORE_HASH_PORT = 16, /* the hash of the ring before takes the source port in */
	SERVICE_OPS = 32, /* UDP: each datagram is scheduled by itself, nothing is recorded; its ring is never marked */
	SERVICE_POLICY = 64,      /* its policy has something to say about every packet */
	SERVICE_FILTERED = 128,   /* there is a filter of all services, or there was one a moment ago */
	SERVICE_LIMITED = 256,    /* some of its backends take no more than so many connections (--max-conns) */
	SERVICE_PERSISTENT = 512, /* a client's new flows go where its note in clients says */
	SERVICE_BY_RING = 1024,   /* tracked for its persistence alone: the ring decides for new flows (mh, sh) */
	SERVICE_BEFORE_HASH_DESTINATION = 2048, /* the hash of the ring before was that of the destination */
	/* What balance() alone sees to: these packets leave the short way. */
	SERVICE_LONG_WAY = SERVICE_LOCAL | SERVICE_POLICY | SERVICE_FILTERED,
};

/*
 * Who gets a new flow of a tracked service: the next in the schedule, or who has least to do (bpf/choose.h); from
 * CHOICE_LBLC on who has least to do among those that the destination's flows went to (bpf/destination.h).
 */
enum choice { CHOICE_TURN, CHOICE_LC, CHOICE_WLC, CHOICE_SED, CHOICE_NQ, CHOICE_LBLC, CHOICE_LBLCR };

struct service {
	__u32 ring_line; /* first line in rings */
	__u32 ring_size; /* slots, at least 1 */
	__u32 before_line;
	__u32 before_size;
	__u32 schedule_line; /* the order in which rr and wrr take backends */
	__u32 schedule_size; /* 0: no backend takes new flows */
	__u32 backend_base;  /* first record in backends and backend_details */
	__u16 backend_count; /* records, those of removed backends included */
	__u16 id;            /* in flow entries; stable while the service lives */
	__u16 flags;         /* enum service_flag */
	__u8 mark_shift;     /* a mark's epoch is age >> mark_shift, four bits of it */
	__u8 settled;        /* state of the entries that are hit most: FLOW_ESTABLISHED, or FLOW_UDP */
	__u32 written;       /* age at which the ring was last changed (32 bits of it) */
	__u32 marks_end;     /* age after which no mark counts for UDP */
	__u64 before_seed;   /* ring_seed of the ring before */
	__u8 choice;         /* enum choice */
	__u8 reserved_tail[7];
};

/* What only some packets need of a service - new flows, or all where SERVICE_POLICY is set -, beside services[i]. */
struct service_policy {
	__u32 filter; /* index into filters; 0: none. Where there is one, SERVICE_POLICY is set */
	__u32 reserved_filter;
	/*
	 * Persistence, where the service has SERVICE_PERSISTENT. In rings, from this line: the service's own backend of
	 * each server that notes name, SLOT_NONE where it has none that takes clients; then each backend's server.
	 */
	__u32 persist_line;
	__u32 persist_ages;    /* that a note lasts; at most PERSIST_AGES_MAX */
	__u16 persist_servers; /* servers that have a slot, before those of the backends */
	__u16 persist_id;      /* in notes: equal in all services of a group, and in no others */
	__u8 persist_prefix;   /* leading bits of a client's address that tell it from another, at least 1 */
	__u8 reserved_octet;
	__u16 reserved_half;
	__u64 reserved[5];
};

/* ---- filters: what is asked of a packet's source before its backend is chosen ---- */

/*
 * A list of prefixes, each allowed or denied, of which the longest that covers a source decides, becomes the ascending
 * list of the addresses at which the answer changes: as many as lie at or below a source, so often has it changed from
 * what holds for the lowest address. So a look-up is a search for a number in a sorted array, and a list of any size is
 * committed with what leads to it. Of IPv4 and of IPv6 by themselves.
 *
 * New connections of one source are bounded by the generic cell rate algorithm (ITU-T I.371): each takes `interval`,
 * and none may come more than `tolerance` before its time.
 */
struct filter {
	__u64 interval; /* in 1 / 2^RATE_SHIFT of a jiffy; 0: no bound */
	__u64 tolerance;
	__u32 first4; /* in filter_bounds: of four IPv4 addresses each */
	__u32 count4; /* addresses */
	__u32 first6; /* likewise, of one IPv6 address each */
	__u32 count6;
	__u32 prefixes; /* what a person said: first and number of filter_prefixes */
	__u32 prefix_count;
	__u32 rate; /* likewise: new connections of a source in a second, and how many at once */
	__u32 burst;
	__u8 denies;    /* 1: a source that no prefix covers is denied */
	__u8 rate_bits; /* the leading bits of an address that make a source: at most 32 of an IPv4 one, 128 of an IPv6
			   one */
	__u16 reserved;
	__u32 reserved_tail;
	/* Where there is a rate: drawn when its service has got one, and then the same for as long as it has any. So
	 * what sources have done at a service that is gone is nothing to another that takes its place or its id. */
	__u64 rate_salt;
};

/* In the order of numbers, the most significant word first. */
struct filter_bound {
	__u32 word[4];
};

/* Packets do not need it. In the order of families, addresses, lengths. */
struct filter_prefix {
	__u32 word[4]; /* as above; IPv4 in the first */
	__u8 bits;
	__u8 family; /* AF_INET 2, AF_INET6 10 */
	__u8 allows; /* 1: allowed; 0: denied */
	__u8 reserved;
};

enum filter_limit {
	FILTER_BOUNDS_MAX = 1 << 21, /* of one family of one list */
	RATE_SHIFT = 20,
	RATE_ROWS = 4,
};

/*
 * When the next new connection of a source is due, in 1 / 2^RATE_SHIFT of a jiffy. A source has a word in each row, by
 * a hash of its own for each, and shares it with others; the earliest of the four counts, and none is raised beyond
 * what that makes the next (conservative update, Estan and Varghese 2002). So a source is never taken for slower than
 * it is (but where two CPUs write at once), and taken for faster only where others that are at their bound have all
 * four of its words.
 */
struct source_rate {
	__u64 due[RATE_ROWS];
};

/* What a person said about the service, beside services[i]: packets do not need it. */

enum scheduler {
	SCHEDULER_RR,
	SCHEDULER_WRR,
	SCHEDULER_MH,
	SCHEDULER_SH,
	SCHEDULER_DH,
	SCHEDULER_LC,
	SCHEDULER_WLC,
	SCHEDULER_SED,
	SCHEDULER_NQ,
	SCHEDULER_LBLC,
	SCHEDULER_LBLCR,
};
enum forward { FORWARD_DSR };
enum hash_input { HASH_SOURCE, HASH_SOURCE_PORT, HASH_DESTINATION };
enum drain_persistence { DRAIN_KEEPS_CLIENTS, DRAIN_CUTS_CLIENTS };
enum group_limit { GROUP_NAME_SIZE = 32 };
enum name_limit { SERVICE_NAME_SIZE = 32 };

struct service_detail {
	__u8 vip_be[16]; /* IPv4 in the first four; of a prefix the address */
	__be16 port_be;  /* the first one; 0: every port */
	__u8 family;     /* AF_INET 2, AF_INET6 10 */
	__u8 protocol;   /* IPPROTO_TCP 6, IPPROTO_UDP 17 */
	__u8 scheduler;
	__u8 forward;
	__u8 hash_input;
	__u8 ops;        /* 1: one-packet scheduling */
	__u32 ring_size; /* as configured; 0: from the number of backends */
	__be16 last_port_be;
	__u8 prefix_bits; /* of a prefix its length; 0: a single address */
	__u8 reserved;
	__u64 seed;             /* configured or drawn at random */
	__u64 changed_ms;       /* Unix time, milliseconds */
	__u32 persist_seconds;  /* 0: no persistence; then what follows of it says nothing */
	__u8 persist_prefix;    /* of clients with IPv4 */
	__u8 persist_prefix6;   /* of clients with IPv6 */
	__u8 drain_persistence; /* enum drain_persistence */
	__u8 reserved_persist;
	char group[GROUP_NAME_SIZE];  /* empty: a persistence of its own */
	char name[SERVICE_NAME_SIZE]; /* that people gave it; empty: none */
	__u64 reserved_tail[1];
};

/* ---- rings: 16-bit slots, in lines of 32. Each service owns runs of whole lines: ring, ring before, schedule ---- */

enum ring_limit { SLOTS_PER_LINE = 32 };

/* A ring's or schedule's slot: backend's index within its service; bit 15 set: the slot is marked. */
enum ring_slot {
	SLOT_BACKEND_MASK = 0x0fff,
	SLOT_NONE = 0x0fff, /* no backend takes this slot */
	SLOT_MARKED = 0x8000,
	SLOT_FULL = 0x1000, /* in no ring, but chosen: every backend that would take it is full (--max-conns) */
};

/*
 * A slot of the ring before: backend's index, and in bits 12-15 the epoch (age >> mark_shift) in which the slot was
 * marked. MARK_EPOCHS epochs are at least the timeout that a mark has to outlive (UDP's, or that of established TCP
 * flows).
 */
enum before_slot { BEFORE_EPOCH_SHIFT = 12, BEFORE_EPOCH_MASK = 0xf, MARK_EPOCHS = 6 };

enum backend_limit { BACKENDS_PER_SERVICE_MAX = 4095 }; /* SLOT_NONE is no index */

/* ---- backends. What a packet needs of one backend of one service ---- */

enum backend_flag {
	BACKEND_ALIVE = 1,  /* has a MAC and was not removed: packets may be sent to it */
	BACKEND_LOCAL = 2,  /* this director itself: XDP_PASS */
	BACKEND_CUT = 4,    /* in place of BACKEND_ALIVE: removed, and packets of the flows that it had are dropped */
	BACKEND_TAGGED = 8, /* its segment is the VLAN in its `vlan`; else it is the untagged one */
};

/*
 * `word`: enum backend_flag in bits 0-7, the interface where it is reached (its slot in root) in 8-15, the MAC in 16-63
 * as struct interface has it. One store changes all three, and one comparison of the lower half-words says that a
 * packet may simply be sent out where it came in.
 */
enum backend_word {
	BACKEND_FLAGS_MASK = 0xff,
	BACKEND_INTERFACE_SHIFT = 8,
	BACKEND_PATH_MASK = 0xffff,
	BACKEND_MAC_SHIFT = 16
};

struct backend {
	__u64 word;
	__u32 counter; /* index into counters and connections; stable while the backend lives. 0: of nobody */
	__u16 vlan;    /* in bits 0-11; the others are 0 */
	__u16 weight;  /* what schedulers go by: 0 where it takes no new flow */
};

/* ---- connections: what each backend has to do at present ---- */

/*
 * By backend.counter. Every entry of the flow table counts for its backend, from when it is recorded until it is freed
 * or replaced: established ones in the upper half of `counts`, all others in the lower. Whoever changes an entry adds
 * to both halves at once. While several CPUs do, a half may be below 0 for a moment: both are signed.
 */
struct connections {
	__u64 counts;
	__u32 full; /* 1: it has reached its upper limit, and not yet fallen below `reopens` */
	__u32 reserved;
};

enum connection_counts { COUNTS_ACTIVE_SHIFT = 32 };

/*
 * backend_runs: by service id, where the backends of a live service stand; so a flow's entry leads to its backend's
 * counts. Written as one word, before the change that it belongs to is committed: indices and counters of backends that
 * stay are the same in both runs.
 */
struct backend_run {
	__u32 base;  /* first record in backends */
	__u16 count; /* 0: nobody's id */
	__u16 flags; /* enum run_flag */
};

enum run_flag { RUN_SWEPT = 1 /* counts decide: its entries are freed within a second of their expiry */ };

/* connection_limits: beside backends[i], read where SERVICE_LIMITED is set. In connections, active and inactive. */
struct connection_limit {
	__u32 upper;   /* with so many it is full (0: never), */
	__u32 reopens; /* and takes new flows again when it has less than this */
};

enum vlan_choice {
	VLAN_BY_ROUTE, /* that of the interface which the route to the backend leads out of */
	VLAN_NONE = 0xffff,
};

enum admin_state {
	ADMIN_REMOVED,
	ADMIN_UP,
	ADMIN_DRAIN,
	ADMIN_LEAVING, /* removed; keeps its flows until they end */
	ADMIN_CUT,     /* removed; its flows' packets are dropped until their entries end */
	ADMIN_MAINT,   /* in maintenance: gets no packets */
};

enum health_state {
	HEALTH_UNSAID,
	HEALTH_ALIVE,
	HEALTH_DOWN, /* gets no packets */
};

/* What a person said and the kernel's neighbour table answered, beside backends[i]: packets do not need it. */
struct backend_detail {
	__u8 address_be[16]; /* IPv4 in the first four */
	__be16 port_be;      /* 0: its service has several, and the packet's is kept */
	__u8 family;
	__u8 admin;          /* enum admin_state */
	__u32 weight;        /* as configured, 0-65535 */
	__u64 since_ms;      /* Unix time of the last change of admin state or, while up, of the weight from or to 0 */
	__u16 vlan;          /* as configured: enum vlan_choice, or an id from 1 to 4094 */
	__u8 health;         /* enum health_state: what a daemon found out, whatever a person said */
	__u8 health_percent; /* of the configured weight, 0-100 */
	__u32 health_since;  /* Unix time of the last change of these two, in seconds */
	__u32 upper;         /* --max-conns UPPER:LOWER as configured; 0: none */
	__u32 lower;
};

/* ---- flows: buckets, one cache line each; a flow may stand in either of two buckets ---- */

/*
 * key: source address (network order; of IPv6: 0) in bits 0-31, source port (network order) in 32-47, service id in
 * 48-63. value: see enum flow_value. A writer claims the value by cmpxchg (FLOW_CLAIMED), stores the key, publishes the
 * value; a reader takes key, value, key again.
 */
enum flow_limit { FLOWS_PER_BUCKET = 4, FLOWS6_PER_BUCKET = 2 };

struct flow {
	__u64 key;
	__u64 value;
};

struct flow_bucket {
	struct flow flow[FLOWS_PER_BUCKET];
};

/*
 * IPv6's, in a table of their own. The source is part of the key. Flows of an IPv4 prefix's services are here too, as
 * two clients' flows to two addresses of it have to be told apart: `source` then is both addresses, and begins with an
 * octet that is no source's (PREFIX_FLOW): destination in bits 32-63 of the first word, source in 0-31 of the second.
 */
enum prefix_flow { PREFIX_FLOW = 0xff, PREFIX_FLOW_SHIFT = 32 };

struct flow6 {
	struct address6 source;
	struct flow flow;
};

struct flow6_bucket {
	struct flow6 flow6[FLOWS6_PER_BUCKET];
};

/*
 * Flows of an IPv6 prefix's services: both addresses are part of the key, which no entry of 32 octets holds. A bucket
 * is three cache lines in a row (docs/decisions/0012-prefixes.md).
 */
enum prefix_flow6_limit { PREFIX_FLOWS6_PER_BUCKET = 4 };

struct prefix_flow6 {
	struct address6 source;
	struct address6 destination;
	struct flow flow;
};

struct prefix_flow6_bucket {
	struct prefix_flow6 prefix_flow6[PREFIX_FLOWS6_PER_BUCKET];
};

enum flow_key { FLOW_PORT_SHIFT = 32, FLOW_SERVICE_SHIFT = 48 };

/* value: destination port (network order) 0-15, backend 16-27, state 28-31, age 32-43, check bits of the hash 44-63. */
enum flow_value {
	FLOW_BACKEND_SHIFT = 16,
	FLOW_BACKEND_MASK = 0xfff,
	FLOW_STATE_SHIFT = 28,
	FLOW_STATE_MASK = 0xf,
	FLOW_AGE_SHIFT = 32,
	FLOW_AGE_MASK = 0xfff,
	FLOW_AGE_BITS = 12,
	FLOW_CHECK_SHIFT = 44,
};

/* The client's half is all that a director sees of a connection. */
enum flow_state {
	FLOW_FREE,
	FLOW_CLAIMED,   /* a writer is at work on it */
	FLOW_HALF_OPEN, /* SYN seen */
	FLOW_ADOPTED,   /* first seen in mid-flow; gives way like a half-open one */
	FLOW_ESTABLISHED,
	FLOW_CLOSING,  /* FIN seen */
	FLOW_CLOSED,   /* RST seen */
	FLOW_UDP_ONCE, /* one UDP packet seen; gives way like a half-open one */
	FLOW_UDP,
};

/*
 * ---- fragments: where the first fragment of a datagram went, for those that follow ----
 * A table of its own, so that no flood of fragments takes a flow's place. Buckets and entries are those of the flow
 * table, each datagram in one bucket; key: a hash of source, VIP, identification and (IPv4) protocol under the flow
 * table's secret seed; value: as a flow's, its state FLOW_UDP for UDP and FLOW_ESTABLISHED for TCP.
 */
enum fragment_limit { FRAGMENT_BUCKETS = 4096 };

/*
 * ---- clients: which server a client was given, for its next connections (persistence) ----
 * Notes in buckets of two cache lines; one may stand in either of two buckets. Servers are numbered within a
 * persistence, so that one note speaks for all services of a group, whatever the indices of their backends. The value
 * is claimed, written and read as a flow's is; name: the three words before it.
 */
enum client_limit { CLIENTS_PER_BUCKET = 4, PERSIST_AGES_MAX = 1 << 22 };

struct client_name {
	struct address6 source; /* its leading bits alone, the others 0; of IPv4: in bits 0-31 of low */
	__u64 owner;            /* persist_id in bits 0-15; bit 16: IPv6; 24-31: how many bits of the address count */
};

struct client {
	struct client_name name;
	__u64 value; /* enum client_value */
};

struct client_bucket {
	struct client client[CLIENTS_PER_BUCKET];
};

enum client_owner { CLIENT_IPV6_SHIFT = 16, CLIENT_PREFIX_SHIFT = 24 };

/*
 * value: server 0-11, state 12-15, 16-39 the age at which the note ends, check bits of the hash 40-63. An age that is
 * more than PERSIST_AGES_MAX ahead is one that has passed.
 */
enum client_value {
	CLIENT_SERVER_MASK = 0xfff,
	CLIENT_STATE_SHIFT = 12,
	CLIENT_STATE_MASK = 0xf,
	CLIENT_AGE_SHIFT = 16,
	CLIENT_AGE_MASK = 0xffffff,
	CLIENT_CHECK_SHIFT = 40,
};

enum client_state {
	CLIENT_FREE,
	CLIENT_CLAIMED, /* a writer is at work on it */
	CLIENT_NEW,     /* no connection of it was established yet; gives way where the buckets are full */
	CLIENT_ASSURED, /* keeps its place until it ends */
};

/*
 * ---- destinations: which backends a prefix's address was given (lblc, lblcr), for its next flows ----
 * Notes in buckets of one cache line; one may stand in either of two buckets. The value is claimed, written and read as
 * a flow's is; its number of changes tells a reader that the backends are those of the value that it has read.
 */
enum destination_limit {
	DESTINATIONS_PER_BUCKET = 2,
	DESTINATION_BACKENDS = 8,
	DESTINATION_KEPT_SECONDS = 360, /* what was used so lately, and more than once, gives way to no other */
};

struct destination {
	__u64 name;  /* address in bits 0-31, service id in 32-47; of IPv6, a hash of the address in all other bits */
	__u64 value; /* enum destination_value */
	__u64 backend[2]; /* indices within the service, of 16 bits each, from the lowest of the first word on: the one
			     that was added last comes first. SLOT_NONE: it was removed */
};

struct destination_bucket {
	struct destination destination[DESTINATIONS_PER_BUCKET];
};

enum destination_name { DESTINATION_SERVICE_SHIFT = 32 };

/*
 * value: state 0-3, how many backends 4-7, how often they were changed 8-15, the age of the last flow 16-39, that of
 * the last change 40-63.
 */
enum destination_value {
	DESTINATION_STATE_MASK = 0xf,
	DESTINATION_COUNT_SHIFT = 4,
	DESTINATION_COUNT_MASK = 0xf,
	DESTINATION_CHANGES_SHIFT = 8,
	DESTINATION_CHANGES_MASK = 0xff,
	DESTINATION_USED_SHIFT = 16,
	DESTINATION_CHANGED_SHIFT = 40,
	DESTINATION_AGE_MASK = 0xffffff,
};

enum destination_state {
	DESTINATION_FREE,
	DESTINATION_CLAIMED, /* a writer is at work on it */
	DESTINATION_ONCE,    /* flows of one unit of age; gives way where the buckets are full */
	DESTINATION_AGAIN,
};

/* ---- settings: one record, read off the hit path. Ages are in units of 2^age_shift jiffies ---- */

struct settings {
	__u16 timeout[FLOW_STATE_MASK +
		      1];          /* ages, by enum flow_state; each below 2,048, as an entry's age has 12 bits */
	__u32 destination_timeout; /* ages after which a destination that no flow came for is forgotten, and after which
				      one whose backends did not change loses one of several */
	__u32 flood_hold;          /* ages for which a CPU goes by the ring after it was over that bound */
	__u32 age_shift;
	__u32 jiffies_per_second;
	__u64 flow_seed;        /* secret; drawn when the flow table is made */
	__u32 flow_buckets;     /* a power of two */
	__u32 fragment_timeout; /* ages for which later fragments are led where the first one went */
};

/* ---- counters, for each CPU its own ---- */

/* counters: by CPU and backend.counter. */
struct backend_counters {
	__u64 packets;
	__u64 bytes; /* of the whole frame, without FCS */
	__u64 flows; /* new flows: SYNs, and for UDP recorded flows */
	__u64 reserved;
};

/*
 * Each packet counts once under PASS_, TX_ or DROP_; FLOW_, CLIENT_ and DESTINATION_ count beside. TX_FORWARDED is not
 * counted by the program: it is what all backends' counters hold beyond TX_REDIRECTED and PASS_LOCAL.
 */
enum reason {
	PASS_OTHER_MAC,    /* its destination is not this interface's MAC */
	PASS_NOT_IP,       /* ARP, LLDP, more than two VLAN tags, ... */
	PASS_NOT_VIP,      /* its destination address is no VIP */
	PASS_NO_SERVICE,   /* a VIP, but no service at this port */
	PASS_NOT_BALANCED, /* a VIP, but neither TCP, UDP nor an error about one: ping, VRRP, ... */
	PASS_LOCAL,        /* its backend is this director */
	PASS_FROM_PEER,    /* another director has chosen this one as its backend */
	TX_FORWARDED,
	TX_REDIRECTED,     /* its backend is behind another interface */
	DROP_MALFORMED,    /* for a VIP, with an IP header that is cut off or contradicts itself */
	DROP_TRUNCATED,    /* for a VIP, without a whole TCP or UDP header */
	DROP_EXTENSIONS,   /* for a VIP, with more IPv6 extension headers than are walked */
	DROP_FRAGMENT,     /* for a VIP, a later fragment whose first one was not seen: its ports are unknown */
	DROP_NO_BACKEND,   /* no backend takes it */
	DROP_BACKEND_DOWN, /* the flow's backend is gone and no other takes it */
	DROP_NO_EGRESS,    /* the interface that leads to its backend is gone */
	DROP_BACKEND_CUT,  /* the flow's backend was removed, and its flows cut */
	DROP_NO_HEADROOM,  /* its backend is on a VLAN, and the driver has left no room for a tag */
	/* Refused by filters: that of all services denies its source; its service's does; it opens a connection, and
	 * its source has opened too many. */
	DROP_DENIED_GLOBAL,
	DROP_DENIED,
	DROP_RATE_LIMITED,
	DROP_TO_SENDER,     /* its backend is who has sent it: another director, of which this one is a backend */
	DROP_BACKENDS_FULL, /* a new flow, and every backend that would take it is full (--max-conns) */
	FLOW_INSERTED,
	FLOW_REFUSED_FULL,        /* both buckets are full of established flows */
	FLOW_REFUSED_BUDGET,      /* beyond the bound on new flows */
	FLOW_REFUSED_RACE,        /* another CPU took the place first */
	CLIENT_NOTED,             /* a client of a persistent service was given a server */
	CLIENT_REFUSED_FULL,      /* its server was not noted: both buckets are full of assured clients */
	CLIENT_REFUSED_RACE,      /* likewise: another CPU took the place first */
	DESTINATION_REFUSED_FULL, /* where its flows go was not noted: both buckets are full of others in use */
	REASONS,
};

/*
 * What makes a note a client's own, and what was found of it. Not on the stack: calls are deep where it is needed, and
 * all frames together have 512 octets.
 */
struct client_search {
	struct client_name name;
	__u64 hash;
	__u64 value; /* 0: no note was found */
	__u64 found; /* its place, counted over all buckets */
};

/* Likewise, of the note of a packet's destination. */
struct destination_search {
	__u64 name;
	__u64 hash;
	__u64 value; /* 0: no note was found */
	__u32 found; /* its place, counted over all buckets */
	__u8 noted;  /* backends in it; 0: there is no note, or it has ended */
	__u8 most;   /* which of them is the most loaded, where one is to go */
	__u16 kept;  /* the backend of it that gets the flow; SLOT_NONE: none of them */
	__u64 backend[2];
};

/* cpus: what one CPU counts by itself. */
enum reason_limit { REASONS_MAX = 48 };

struct cpu {
	__u64 reasons[REASONS_MAX]; /* by enum reason */
	/* New tracked flows: those recorded in unit of age `budget_age`, and the age at which the bound was last
	 * passed. */
	__u32 budget_age;
	__u32 budget_used;
	__u32 flood_age;
	__u32 flooded; /* 1: flood_age was set, and its hold has not been seen to end */
	/* Of the packet at hand, while a capture runs: enum reason as bits, its service's id, its backend's counter. */
	__u64 noted_reasons;
	__u32 noted_service; /* CAPTURE_NONE: not known, or none; so too of a backend */
	__u32 noted_counter;
	struct client_search search; /* these two: of the packet that it is at work on */
	struct destination_search destination;
};

/* ---- flow_changes: by CPU. Where flow sync will read which buckets changed ---- */

enum flow_changes_limit { FLOW_CHANGES_PER_CPU = 8192 };

/* Of a bucket's number: it is one of flows6, or of prefix_flows6. */
#define FLOW_CHANGE_IPV6    0x80000000U
#define FLOW_CHANGE_PREFIX6 0x40000000U

struct flow_changes {
	__u64 written; /* changes ever written by this CPU; the newest stands at (written - 1) % FLOW_CHANGES_PER_CPU */
	__u32 bucket[FLOW_CHANGES_PER_CPU];
};

/* ---- capture: what bpf/capture.bpf.c is told when it is loaded, and what it tells of each packet ---- */

enum capture_limit {
	CAPTURE_HEAD_BYTES = 32,    /* of a frame, saved before the packet path writes to it: MACs and tags */
	CAPTURE_REST_BYTES = 16384, /* of a frame at most, behind its head: a power of two */
};

enum capture_note { CAPTURE_NONE = 0x7fffffff };

/* An address and the bits of it that count; all zeros: any. IPv4 in the first four. */
struct capture_address {
	__u8 address_be[16];
	__u8 mask_be[16];
};

struct capture_filter {
	__u64 reasons;    /* as bits: a packet is wanted that has one of them. All bits: whatever it has, if anything */
	__u32 verdicts;   /* enum xdp_action, as bits */
	__u32 snap_bytes; /* of a frame, that are wanted */
	__u32 family;     /* AF_INET 2, AF_INET6 10; 0: any, and no address is asked for */
	/* The id of the service whose packets are wanted, and with them all that are dropped before they have come to
	 * any service; CAPTURE_NONE: whatever the service. */
	__u32 service;
	struct capture_address source;
	struct capture_address destination;
};

/* What stands before each frame in the ring. */
struct capture_event {
	__u64 time_ns; /* CLOCK_MONOTONIC, at the verdict */
	__u64 reasons; /* enum reason, as bits; here with TX_FORWARDED */
	__u32 service; /* its id; CAPTURE_NONE: it came to none */
	__u32 counter; /* the chosen backend's; CAPTURE_NONE: none was */
	__u32 frame_bytes;
	__u32 captured_bytes; /* that follow */
	__u32 verdict;        /* enum xdp_action */
	__u32 slot;           /* the interface's, in root */
};

/* By interface and CPU. */
struct capture_counts {
	__u64 packets; /* that the program saw, those included that nobody wanted */
	__u64 lost;    /* wanted, but the ring was full */
};

/* ---- the argument of the `clock` program: how the controller reads the packet path's clock ---- */

struct clock {
	__u64 age;
	__u64 jiffies;
};

_Static_assert(REASONS < 64, "reasons are bits of a word");
_Static_assert(__builtin_offsetof(struct run, flags) == __builtin_offsetof(struct target, flags), "flags");

#define XLB_LAYOUT(type, size) _Static_assert(sizeof(type) == (size), #type " changed its size")
XLB_LAYOUT(struct interface, 32);
XLB_LAYOUT(struct directory, 56);
XLB_LAYOUT(struct root, 160 + 32 * INTERFACES_MAX);
XLB_LAYOUT(struct vip6_bucket, 64);
XLB_LAYOUT(struct target, 32);
XLB_LAYOUT(struct run, sizeof(struct target));
XLB_LAYOUT(struct target_bucket, 128);
XLB_LAYOUT(struct service, 64);
XLB_LAYOUT(struct service_policy, 64);
XLB_LAYOUT(struct filter, 64);
XLB_LAYOUT(struct filter_bound, 16);
XLB_LAYOUT(struct filter_prefix, 20);
XLB_LAYOUT(struct source_rate, 32);
XLB_LAYOUT(struct service_detail, 128);
XLB_LAYOUT(struct capture_event, 40);
XLB_LAYOUT(struct client, 32);
XLB_LAYOUT(struct client_bucket, 128);
XLB_LAYOUT(struct destination, 32);
XLB_LAYOUT(struct destination_bucket, 64);
XLB_LAYOUT(struct backend, 16);
XLB_LAYOUT(struct backend_detail, 48);
XLB_LAYOUT(struct connections, 16);
XLB_LAYOUT(struct backend_run, 8);
XLB_LAYOUT(struct connection_limit, 8);
XLB_LAYOUT(struct flow_bucket, 64);
XLB_LAYOUT(struct flow6_bucket, 64);
XLB_LAYOUT(struct prefix_flow6_bucket, 192);
XLB_LAYOUT(struct settings, 64);
XLB_LAYOUT(struct flow_changes, 32776);
XLB_LAYOUT(struct backend_counters, 32);
XLB_LAYOUT(struct cpu, 512);

#endif
