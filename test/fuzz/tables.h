/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Tables as a controller would write them: every kind of service, and of each every kind of backend. */
#ifndef XLB_FUZZ_TABLES_H
#define XLB_FUZZ_TABLES_H

#include <string.h>
#include "packetpath.h"

enum {
	VIP_A = 0xc000020a, /* 192.0.2.10 */
	VIP_B = 0xc000020b,
	VIP_C = 0xc000020c, /* this one and the next have one service each */
	VIP_D = 0xc000020d,
	VIP_E = 0xc000020e,       /* of this one a packet finds every port */
	VIP_H = 0xc000020f,       /* whose services do not hear everybody */
	BACKENDS_PER_SERVICE = 8, /* records; not all are used */
	LINES_PER_SERVICE = 5,    /* two of the ring, one each of the ring before, schedule and persistence */
	RING_SIZE = 61,
	RING_BEFORE_SIZE = 31,
	SCHEDULE_SIZE = 7,
	OTHER_SLOT = 2, /* an interface that some backends are behind */
	OTHER_IFINDEX = 7,
	OWN_IFINDEX = 4,
	FRAGMENT_TIMEOUT = 3,
	VLAN_OF_TAGGED = 0x123,
	PERSIST_SERVERS = 8,
	PERSIST_AGES = 12,
	PERSIST_PREFIX = 30,
	JIFFIES_AT_START = 0xffff0 << HOST_AGE_SHIFT,
};

/* As the directory has them, with bit 32, by which they are no VIP: 198.18.0.0/16, and in that 198.18.5.0/24. */
#define PREFIX_F (1ULL << 32 | 0xc6128000)
#define PREFIX_G (1ULL << 32 | 0xc6120580)

struct fixture {
	__u64 vip;
	__u16 port;
	__u8 protocol;
	__u16 flags;    /* enum service_flag */
	__u8 further;   /* stands in service_buckets: its VIP has more services than a bucket has room for */
	__u8 hash_bits; /* enum hashed_bits; 0: the destination is hashed */
	__u8 backends;
	__u16 last_port; /* of a range, or of every port (from 0); 0: of one port */
};

static const struct fixture fixtures[] = {
    {VIP_A, 80, IPPROTO_TCP, 0, 0, HASHED_SOURCE, 6, 0},
    {VIP_A, 443, IPPROTO_TCP, SERVICE_TRACKED | SERVICE_PERSISTENT, 0, HASHED_SOURCE_PORT, 6, 0},
    {VIP_A, 53, IPPROTO_UDP, SERVICE_UDP | SERVICE_TRACKED, 0, HASHED_SOURCE_PORT, 6, 0},
    {VIP_A, 5060, IPPROTO_UDP, SERVICE_UDP | SERVICE_LOCAL, 0, HASHED_SOURCE, 6, 0},
    {VIP_B, 80, IPPROTO_TCP, SERVICE_MARKED, 0, HASHED_SOURCE_PORT, 6, 0},
    {VIP_B, 53, IPPROTO_UDP, SERVICE_UDP | SERVICE_MARKED | SERVICE_BEFORE_HASH_PORT, 0, HASHED_SOURCE_PORT, 6, 0},
    {VIP_B, 443, IPPROTO_TCP, SERVICE_TRACKED | SERVICE_MARKED | SERVICE_LOCAL, 0, HASHED_SOURCE_PORT, 6, 0},
    {VIP_B, 8080, IPPROTO_TCP, 0, 1, HASHED_SOURCE_PORT, 6, 0},
    {VIP_B, 8081, IPPROTO_UDP, SERVICE_UDP | SERVICE_MARKED, 1, HASHED_SOURCE, 6, 0},
    {VIP_B, 9, IPPROTO_TCP, SERVICE_TRACKED, 1, HASHED_SOURCE, 0, 0},
    {VIP_C, 80, IPPROTO_TCP, SERVICE_LOCAL, 0, HASHED_SOURCE, 6, 0},
    {VIP_D, 5353, IPPROTO_UDP, SERVICE_UDP | SERVICE_TRACKED | SERVICE_PERSISTENT, 0, HASHED_SOURCE, 6, 0},
    {VIP_E, 80, IPPROTO_TCP, 0, 0, HASHED_SOURCE_PORT, 6, 0},
    {VIP_E, 8000, IPPROTO_TCP, SERVICE_TRACKED | SERVICE_PERSISTENT | SERVICE_BY_RING, 0, HASHED_SOURCE_PORT, 6, 8099},
    {VIP_E, 0, IPPROTO_TCP, SERVICE_MARKED, 0, HASHED_SOURCE, 6, 65535},
    {VIP_E, 0, IPPROTO_UDP, SERVICE_UDP | SERVICE_TRACKED | SERVICE_OPS, 0, HASHED_SOURCE, 6, 65535},
    {PREFIX_F, 80, IPPROTO_TCP, 0, 0, 0, 6, 0},
    {PREFIX_F, 0, IPPROTO_UDP, SERVICE_UDP | SERVICE_LOCAL, 0, HASHED_SOURCE_PORT, 6, 65535},
    {PREFIX_F, 81, IPPROTO_TCP, SERVICE_LOCAL, 0, HASHED_SOURCE, 6, 0},
    {PREFIX_G, 53, IPPROTO_UDP, SERVICE_UDP, 0, 0, 6, 0},
    {VIP_H, 80, IPPROTO_TCP, SERVICE_POLICY, 0, HASHED_SOURCE_PORT, 6, 0},
    {VIP_H, 443, IPPROTO_TCP, SERVICE_TRACKED | SERVICE_POLICY | SERVICE_FILTERED, 0, HASHED_SOURCE_PORT, 6, 0},
    {VIP_H, 53, IPPROTO_UDP, SERVICE_UDP | SERVICE_TRACKED | SERVICE_POLICY, 0, HASHED_SOURCE_PORT, 6, 0},
    {VIP_H, 54, IPPROTO_UDP, SERVICE_UDP | SERVICE_FILTERED, 0, HASHED_SOURCE, 6, 0},
    {PREFIX_G, 80, IPPROTO_TCP, SERVICE_TRACKED, 0, 0, 6, 0},
    {PREFIX_G, 81, IPPROTO_TCP, SERVICE_MARKED | SERVICE_BEFORE_HASH_PORT, 0, 0, 6, 0},
    {PREFIX_G, 8080, IPPROTO_TCP, SERVICE_TRACKED, 0, 0, 6, 0},
    {PREFIX_F, 443, IPPROTO_TCP, SERVICE_TRACKED, 0, 0, 6, 0},
};

/* Two remember destinations, the others take turns. */
static enum choice choice_of(__u32 service)
{
	const struct fixture *fixture = &fixtures[service];

	if (fixture->vip == PREFIX_G && fixture->port == 8080)
		return CHOICE_LBLCR;
	return fixture->vip == PREFIX_F && fixture->port == 443 ? CHOICE_LBLC : CHOICE_TURN;
}

/* Each denies what lies between two addresses, or, where `turned`, what does not. */
struct list {
	__u32 first;
	__u32 behind; /* 0: the list goes on to the highest */
	__u8 turned;
	__u8 has_rate;
};

enum { LIST_OF_ALL = 3 };

static const struct list lists[] = {
    [1] = {0xcb007108, 0xcb00710b, 0, 0}, /* 203.0.113.8 and the next two */
    [2] = {0xc0000000, 0, 1, 1},          /* all below 192.0.0.0; and a rate */
    [LIST_OF_ALL] = {0xcb007105, 0xcb007106, 0, 0},
};

/* A service's own; 0: none. */
static __u32 own_list(const struct fixture *fixture)
{
	return !(fixture->flags & SERVICE_POLICY) ? 0 : fixture->port == 80 ? 1 : 2;
}

/* What is in the map `egress`; 0: nothing. */
static __u32 host_egress(__u64 slot)
{
	return slot == OTHER_SLOT ? OTHER_IFINDEX : slot == HOST_OWN_SLOT ? OWN_IFINDEX : 0;
}

enum { SERVICES = sizeof(fixtures) / sizeof(fixtures[0]) };

_Static_assert(SERVICES <= HOST_MASK_services + 1 && SERVICES * BACKENDS_PER_SERVICE <= HOST_MASK_backends + 1 &&
		   SERVICES * BACKENDS_PER_SERVICE <= HOST_COUNTERS_PER_CPU &&
		   SERVICES * LINES_PER_SERVICE * SLOTS_PER_LINE <= HOST_MASK_rings + 1,
	       "the tables of host.h hold all services");

enum reach { REACH_OWN, REACH_OTHER, REACH_LOCAL, REACH_DEAD, REACH_TAGGED };

/* How a backend is reached, by its index within its service. */
static enum reach reach_of(__u32 service, __u32 index)
{
	const enum reach reaches[] = {REACH_OWN, REACH_OWN, REACH_OTHER, REACH_LOCAL, REACH_DEAD, REACH_TAGGED};

	/* With a backend on this host all packets go the long way: most services have none. */
	if (reaches[index] == REACH_LOCAL && !(fixtures[service].flags & SERVICE_LOCAL))
		return REACH_OWN;
	return reaches[index];
}

static bool has_mac(enum reach reach)
{
	return reach == REACH_OWN || reach == REACH_OTHER || reach == REACH_TAGGED;
}

static const __u8 own_mac[ETH_ALEN] = {0x02, 0, 0, 0, 0, 0x01};
static const __u8 other_mac[ETH_ALEN] = {0x02, 0, 0, 0, 0, 0x02};

static void backend_mac(__u32 record, __u8 *mac)
{
	const __u8 octets[ETH_ALEN] = {0x02, 0xbe, 0, 0, record / BACKENDS_PER_SERVICE, record % BACKENDS_PER_SERVICE};

	memcpy(mac, octets, sizeof(octets));
}

static __u64 mac_high(const __u8 *mac)
{
	__u64 word = 0;

	memcpy((__u8 *)&word + 2, mac, ETH_ALEN);
	return word;
}

static void fill_backends(__u32 service)
{
	const __u64 words[] = {[REACH_OWN] = HOST_OWN_PATH,
			       [REACH_OTHER] = BACKEND_ALIVE | OTHER_SLOT << BACKEND_INTERFACE_SHIFT,
			       [REACH_LOCAL] = BACKEND_ALIVE | BACKEND_LOCAL,
			       [REACH_TAGGED] = HOST_OWN_PATH | BACKEND_TAGGED,
			       [REACH_DEAD] = 0};

	for (__u32 i = 0; i < fixtures[service].backends; i++) {
		__u32 record = service * BACKENDS_PER_SERVICE + i;
		enum reach reach = reach_of(service, i);
		__u8 mac[ETH_ALEN];

		backend_mac(record, mac);
		backends[record].word = words[reach] | (has_mac(reach) ? mac_high(mac) : 0);
		backends[record].counter = record;
		backends[record].weight = reach == REACH_DEAD ? 0 : 1 + i % 2;
		backends[record].vlan = reach == REACH_TAGGED ? VLAN_OF_TAGGED : 0;
	}
}

static void fill_rings(__u32 service)
{
	const struct fixture *fixture = &fixtures[service];
	__u16 *slots = &rings[service * LINES_PER_SERVICE * SLOTS_PER_LINE];
	__u16 *before = slots + 2 * SLOTS_PER_LINE, *schedule = slots + 3 * SLOTS_PER_LINE;
	__u32 count = fixture->backends;

	for (__u32 i = 0; i < RING_SIZE; i++) {
		slots[i] = count && i % 16 != 15 ? i % count : SLOT_NONE;
		if (fixture->flags & SERVICE_MARKED && i % 3 != 1)
			slots[i] |= SLOT_MARKED;
	}
	for (__u32 i = 0; i < RING_BEFORE_SIZE; i++)
		before[i] = (count && i % 8 != 7 ? (i + 1) % count : SLOT_NONE) | (i & 0xf) << BEFORE_EPOCH_SHIFT;
	for (__u32 i = 0; count && i < SCHEDULE_SIZE; i++)
		schedule[i] = i % count;
}

/* Of a backend's index: all services number their servers so. */
static __u32 server_of(__u32 backend)
{
	return (backend + PERSIST_SERVERS - 1) % PERSIST_SERVERS;
}

/* Server s is backend s + 1; one is none of this service's, and one takes no clients. All are of one group. */
static void fill_policy(__u32 service)
{
	__u32 line = service * LINES_PER_SERVICE + 4, count = fixtures[service].backends;
	__u16 *slots = &rings[line * SLOTS_PER_LINE];

	if (!(fixtures[service].flags & SERVICE_PERSISTENT))
		return;
	for (__u32 i = 0; i < PERSIST_SERVERS; i++)
		slots[i] = SLOT_NONE;
	for (__u32 i = 0; i < count; i++) {
		__u32 server = server_of(i);

		if (i != 2)
			slots[server] = i;
		slots[PERSIST_SERVERS + i] = server;
	}
	service_policies[service] = (struct service_policy){
	    .persist_line = line,
	    .persist_ages = PERSIST_AGES,
	    .persist_servers = PERSIST_SERVERS,
	    .persist_id = 7,
	    .persist_prefix = PERSIST_PREFIX,
	};
}

/* One for both at port 53: so the hashed one finds flows in the table, as if it had been tracked until lately. */
static __u16 service_id(__u32 number)
{
	return fixtures[number].port == 53 ? 1 : number + 2;
}

static void fill_service(__u32 number)
{
	const struct fixture *fixture = &fixtures[number];
	__u32 line = number * LINES_PER_SERVICE;

	services[number] = (struct service){
	    .ring_line = line,
	    .ring_size = RING_SIZE,
	    .before_line = line + 2,
	    .before_size = RING_BEFORE_SIZE,
	    .schedule_line = line + 3,
	    .schedule_size = fixture->backends ? SCHEDULE_SIZE : 0,
	    .backend_base = number * BACKENDS_PER_SERVICE,
	    .backend_count = fixture->backends,
	    .id = service_id(number),
	    .flags = fixture->flags,
	    .mark_shift = 3,
	    .settled = fixture->flags & SERVICE_UDP ? FLOW_UDP : FLOW_ESTABLISHED,
	    .choice = choice_of(number),
	    .marks_end = (JIFFIES_AT_START >> HOST_AGE_SHIFT) + 40,
	    .before_seed = 0x7f4a7c159e3779b1ULL + 2 * number,
	};
	backend_runs[service_id(number)] = (struct backend_run){
	    .base = number * BACKENDS_PER_SERVICE,
	    .count = choice_of(number) != CHOICE_TURN ? fixture->backends : 0,
	};
	service_policies[number].filter = own_list(fixture);
	fill_backends(number);
	fill_rings(number);
	fill_policy(number);
}

static void fill_filters(void)
{
	for (__u32 i = 1; i < sizeof(lists) / sizeof(lists[0]); i++) {
		const struct list *list = &lists[i];

		filters[i] = (struct filter){
		    .interval = list->has_rate ? 1 << RATE_SHIFT : 0,
		    .tolerance = list->has_rate ? 2 << RATE_SHIFT : 0,
		    .first4 = i - 1,
		    .count4 = list->behind ? 2 : 1,
		    .denies = list->turned,
		    .rate_bits = 24,
		};
		filter_bounds[i - 1] = (struct filter_bound){{list->first, list->behind}};
	}
}

static void place_target(__u64 live, __u32 number)
{
	const struct fixture *fixture = &fixtures[number];
	const struct directory *directory = &root[0].directory[1];
	struct target_bucket *bucket = (struct target_bucket *)find_vip_bucket(live, bpf_htonl((__u32)fixture->vip));
	struct target target = {
	    .key = bpf_htonl((__u32)fixture->vip) | (__u64)bpf_htons(fixture->port) << KEY_PORT_SHIFT |
		   (__u64)fixture->protocol << KEY_PROTOCOL_SHIFT | fixture->vip >> 32 << KEY_PREFIX_SHIFT,
	    .ring_seed = 0x9e3779b97f4a7c15ULL + 2 * number,
	    .hash_mask = fixture->hash_bits ? (1ULL << fixture->hash_bits) - 1 : HASHED_DESTINATION,
	    .service = number,
	    .flags = TARGET_DIRECTORY_1,
	    .last_port = fixture->last_port ? fixture->last_port : fixture->port,
	};

	if (fixture->vip == VIP_B && !fixture->further)
		target.flags |= TARGET_MORE;
	if (fixture->vip == VIP_E)
		target.flags |= TARGET_RANGES | TARGET_EVERY_PORT;
	if (fixture->vip == PREFIX_F)
		target.flags |= TARGET_EVERY_PORT;
	if (fixture->port && fixture->last_port) {
		struct run run = {
		    .key = (target.key & ~(0xffffULL << KEY_PORT_SHIFT)) | 1ULL << KEY_RUN_SHIFT,
		    .count = 1,
		    .first = 1,
		    .flags = target.flags,
		};

		range_targets[1] = target;
		memcpy(&target, &run, sizeof(target));
	}

	if (fixture->further)
		bucket = &service_buckets[directory->service_base +
					  (target.key * directory->service_multiplier >> directory->service_shift)];
	for (__u32 i = 0; i < TARGETS_PER_BUCKET; i++)
		if (!bucket->target[i].key) {
			bucket->target[i] = target;
			return;
		}
	__builtin_trap(); /* a bucket overflows: choose another multiplier */
}

/* All that packets only read. */
static void fill_tables(void)
{
	/* 64 buckets: the shift is 58. The second of the two directories is live. */
	const __u64 live = (0x9e3779b97f4a7c15ULL & ~0x7fULL) | HOST_DIRECTORY_BUCKETS | LIVE_PREFIXES | 58;

	root[0].live = live;
	root[0].contract = CONTRACT_VERSION;
	root[0].directory[1] = (struct directory){
	    .service_multiplier = 0xff51afd7ed558ccdULL,
	    .service_base = 64,
	    .service_shift = 58,
	    .new_flows = 6,
	    .prefixes = 0x8000 | 0x80, /* of 16 and of 24 bits */
	    .filter = LIST_OF_ALL,
	};
	root[0].interface[HOST_OWN_SLOT] = (struct interface){.mac_high = mac_high(own_mac), .ifindex = OWN_IFINDEX};
	root[0].interface[OTHER_SLOT] = (struct interface){.mac_high = mac_high(other_mac), .ifindex = OTHER_IFINDEX};
	settings[0] = (struct settings){
	    .timeout = {[FLOW_HALF_OPEN] = 3,
			[FLOW_ADOPTED] = 4,
			[FLOW_ESTABLISHED] = 30,
			[FLOW_CLOSING] = 5,
			[FLOW_CLOSED] = 2,
			[FLOW_UDP_ONCE] = 3,
			[FLOW_UDP] = 9},
	    .flood_hold = 2,
	    .destination_timeout = 20,
	    .age_shift = HOST_AGE_SHIFT,
	    .flow_seed = HOST_FLOW_SEED,
	    .flow_buckets = HOST_MASK_flows + 1,
	    .fragment_timeout = FRAGMENT_TIMEOUT,
	};
	fill_filters();
	for (__u32 number = 0; number < SERVICES; number++) {
		fill_service(number);
		place_target(live, number);
	}
}

#endif
