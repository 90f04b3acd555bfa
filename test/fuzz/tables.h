/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Tables as a controller would write them: every kind of service, and of each every kind of backend. */
#ifndef XLB_FUZZ_TABLES_H
#define XLB_FUZZ_TABLES_H

#include <string.h>
#include "fixtures.h"

enum {
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

/* What is in the map `egress`; 0: nothing. */
static __u32 host_egress(__u64 slot)
{
	return slot == OTHER_SLOT ? OTHER_IFINDEX : slot == HOST_OWN_SLOT ? OWN_IFINDEX : 0;
}

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

/* What a VIP's keys have of it. */
static __u64 key_of_vip(__u64 live, __u64 vip)
{
	__u32 place = (__u32)vip;

	if (!(vip >> 33))
		return bpf_htonl((__u32)vip) | vip >> 32 << KEY_PREFIX_SHIFT;
	return find_vip6(live, vip6_addresses[place].number) | 1ULL << KEY_IPV6_SHIFT |
	       (__u64)vip6_addresses[place].is_prefix << KEY_PREFIX_SHIFT;
}

static void place_vips6(__u64 word)
{
	for (__u32 i = 0; i < sizeof(vip6_addresses) / sizeof(vip6_addresses[0]); i++) {
		struct address6 number;
		struct vip6_bucket *bucket;

		memcpy(&number, vip6_addresses[i].number, sizeof(number));
		bucket =
		    &vip6_buckets[(fold_address6(number) * word >> (word & LIVE_SHIFT_MASK)) + HOST_DIRECTORY_BUCKETS];
		bucket->vip[bucket->vip[0].high || bucket->vip[0].low] = number;
	}
}

static void place_target(__u64 live, __u32 number)
{
	const struct fixture *fixture = &fixtures[number];
	const struct directory *directory = &root[0].directory[1];
	__u64 vip = key_of_vip(live, fixture->vip);
	struct target_bucket *bucket = (struct target_bucket *)find_vip_bucket(live, vip);
	struct target target = {
	    .key = vip | (__u64)bpf_htons(fixture->port) << KEY_PORT_SHIFT |
		   (__u64)fixture->protocol << KEY_PROTOCOL_SHIFT,
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
	if (fixture->vip == PREFIX_F || fixture->vip == PREFIX6_P)
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
	const __u64 vip6 = (0x165667b19e3779f9ULL & ~0x7fULL) | HOST_DIRECTORY_BUCKETS | 58;

	root[0].live = live;
	root[0].contract = CONTRACT_VERSION;
	root[0].directory[1] = (struct directory){
	    .vip6 = vip6,
	    .service_multiplier = 0xff51afd7ed558ccdULL,
	    .service_base = 64,
	    .service_shift = 58,
	    .new_flows = 6,
	    .prefixes = 0x8000 | 0x80,    /* of 16 and of 24 bits */
	    .prefixes6_high = 1ULL << 15, /* of 48, of which there is none */
	    .prefixes6_low = 1ULL << 63,  /* of 64 */
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
	place_vips6(vip6);
	for (__u32 number = 0; number < SERVICES; number++) {
		fill_service(number);
		place_target(live, number);
	}
}

#endif
