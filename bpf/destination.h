/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Notes of lblc and lblcr: which backends flows to an address of a prefix went to. locality.h decides by them; here
 * they are found, written, and give way to each other.
 *
 * A note is claimed, written and published as an entry of the flow table is (flow.h). A reader takes the value before
 * and after the backends: each change of them counts in the value. What a reader misses, and what two CPUs note at
 * once, costs no flow its backend: its flow has an entry of its own, and any backend of the service may have the next
 * one.
 *
 * Where both buckets are full, ended notes give way, then those that no second flow has used, or none for six minutes,
 * the oldest first (DESTINATION_KEPT_SECONDS; net/netfilter/ipvs/ip_vs_lblc.c, ENTRY_TIMEOUT, has its table shrink by
 * the same time). So whoever sends a SYN to each address of a large prefix puts out no note that is in use.
 */
#ifndef XLB_DESTINATION_H
#define XLB_DESTINATION_H

#include "flow.h"

static __always_inline __u32 destination_state(__u64 value)
{
	return value & DESTINATION_STATE_MASK;
}

/* How many backends there are in it. */
static __always_inline __u32 destination_count(__u64 value)
{
	return value >> DESTINATION_COUNT_SHIFT & DESTINATION_COUNT_MASK;
}

/* Units of age since its last flow. */
static __always_inline __u32 destination_idle(__u64 value, __u64 now)
{
	return (now - (value >> DESTINATION_USED_SHIFT)) & DESTINATION_AGE_MASK;
}

/* Units of age since its backends changed. */
static __always_inline __u32 destination_unchanged(__u64 value, __u64 now)
{
	return (now - (value >> DESTINATION_CHANGED_SHIFT)) & DESTINATION_AGE_MASK;
}

static __always_inline bool destination_ended(__u64 value, __u64 now)
{
	return destination_idle(value, now) > settings_now()->destination_timeout;
}

/* What a flow changes of a value: that it came now, and the state. */
static __always_inline __u64 used_now(__u64 value, __u32 state, __u64 now)
{
	const __u64 mask = (__u64)DESTINATION_AGE_MASK << DESTINATION_USED_SHIFT | DESTINATION_STATE_MASK;

	return (value & ~mask) | (now & DESTINATION_AGE_MASK) << DESTINATION_USED_SHIFT | state;
}

/* What a change of the backends changes of a value: that it was now, one more, and how many backends there are. */
static __always_inline __u64 changed_now(__u64 value, __u32 count, __u64 now)
{
	const __u64 kept = (__u64)DESTINATION_AGE_MASK << DESTINATION_USED_SHIFT | DESTINATION_STATE_MASK;
	__u64 changes = ((value >> DESTINATION_CHANGES_SHIFT) + 1) & DESTINATION_CHANGES_MASK;

	return (value & kept) | (__u64)count << DESTINATION_COUNT_SHIFT | changes << DESTINATION_CHANGES_SHIFT |
	       now << DESTINATION_CHANGED_SHIFT;
}

/* The two buckets that a note may stand in. */
static __always_inline __u32 destination_bucket(__u64 hash, bool second)
{
	__u32 first = hash >> 32;

	return second ? first ^ ((__u32)hash * 0x9e3779b1U >> 7) : first;
}

static __always_inline struct destination *destination_at(__u64 place)
{
	struct destination_bucket *bucket = AT(destinations, place / DESTINATIONS_PER_BUCKET);

	return &bucket->destination[place % DESTINATIONS_PER_BUCKET];
}

/* What this CPU knows of the destination of the packet that it is at work on. */
static __always_inline struct destination_search *own_destination(void)
{
	return &own_cpu(bpf_get_smp_processor_id())->destination;
}

/* ---- the backends of a note, in two words ---- */

static __always_inline __u32 noted_backend_at(const struct destination_search *search, __u32 at)
{
	__u64 word = at < 4 ? search->backend[0] : search->backend[1];

	return (__u16)(word >> 16 * (at & 3));
}

static __always_inline bool is_noted(const struct destination_search *search, __u32 backend)
{
	for (__u32 at = 0; at < DESTINATION_BACKENDS; at++)
		if (at < destination_count(search->value) && noted_backend_at(search, at) == backend)
			return true;
	return false;
}

/* It comes first, and the others after it. */
static __always_inline void add_noted(struct destination_search *search, __u32 backend)
{
	search->backend[1] = search->backend[1] << 16 | search->backend[0] >> 48;
	search->backend[0] = search->backend[0] << 16 | backend;
}

static __always_inline __u64 without_half(__u64 word, __u32 at)
{
	__u64 below = (1ULL << 16 * (at & 3)) - 1;

	return (word & below) | (word >> 16 & ~below);
}

/* Those after it come one place further to the front. */
static __always_inline void remove_noted(struct destination_search *search, __u32 at)
{
	if (at >= 4) {
		search->backend[1] = without_half(search->backend[1], at);
		return;
	}
	search->backend[0] = without_half(search->backend[0], at) | search->backend[1] << 48;
	search->backend[1] >>= 16;
}

/* ---- reading ---- */

/* Finds a destination's note, ended or not. Not inlined: the verifier proves it once. */
__noinline int find_destination(struct destination_search *search)
{
	if (!search)
		return 0;
	search->hash = hash_mix(search->name, CONSTANT64(FLOW_SEED));
	search->value = 0;
	/* As in find_client (persist.h), no loop. */
#pragma unroll
	for (__u32 i = 0; i < 2 * DESTINATIONS_PER_BUCKET; i++) {
		__u64 bucket = destination_bucket(search->hash, i >= DESTINATIONS_PER_BUCKET);
		__u64 place = bucket * DESTINATIONS_PER_BUCKET + i % DESTINATIONS_PER_BUCKET;
		struct destination *destination = destination_at(place);
		__u64 value = READ_WORD(destination->value);

		if (destination_state(value) <= DESTINATION_CLAIMED || READ_WORD(destination->name) != search->name)
			continue;
		search->backend[0] = READ_WORD(destination->backend[0]);
		search->backend[1] = READ_WORD(destination->backend[1]);
		if (READ_WORD(destination->value) != value)
			continue;
		search->value = value;
		search->found = place;
		break;
	}
	return 0;
}

/*
 * What of a name says the address. Of IPv6 a hash under a secret seed: should two addresses of a prefix share its 48
 * bits, they share a note, and no flow goes where it may not.
 */
static __always_inline __u64 destination_address(const struct packet *packet)
{
	const __u64 service = 0xffffULL << DESTINATION_SERVICE_SHIFT;
	__u64 seed = CONSTANT64(FLOW_SEED), hash;

	if (!packet->is_ipv6)
		return packet->source6.high >> PREFIX_FLOW_SHIFT;
	hash = hash_mix(hash_address6(packet->vip6.high, packet->vip6.low, seed), seed);
	return (hash & ~service & ~0xffffffffULL) | (__u32)(hash >> 16);
}

/* Finds the note of a packet's destination, which a flow uses from now on. */
__noinline int recall_destination(const struct service *service, const struct packet *packet)
{
	struct destination_search *search = own_destination();
	__u64 now = clock_age(), value;

	if (!service || !packet)
		return 0;
	search->name = destination_address(packet) | (__u64)service->id << DESTINATION_SERVICE_SHIFT;
	search->noted = 0;
	search->kept = SLOT_NONE;
	find_destination(search);
	if (!search->value || destination_ended(search->value, now))
		return 0;
	value = used_now(search->value, DESTINATION_AGAIN, now);
	/* A lost race is another flow's. */
	if (destination_idle(search->value, now) &&
	    __sync_val_compare_and_swap(&destination_at(search->found)->value, search->value, value) == search->value)
		search->value = value;
	search->noted = destination_count(search->value);
	return 0;
}

/* ---- writing ---- */

/* Has a claimed place hold what was searched, with this value. */
static __always_inline void publish_destination(struct destination *destination, struct destination_search *search,
						__u64 value)
{
	WRITE_WORD(destination->name, search->name);
	WRITE_WORD(destination->backend[0], search->backend[0]);
	WRITE_WORD(destination->backend[1], search->backend[1]);
	/* A cmpxchg, not a store: it orders the words before the value on every machine. */
	__sync_val_compare_and_swap(&destination->value, DESTINATION_CLAIMED, value);
	search->value = value;
}

/* Writes the backends of `search` into its note. Nothing is written where another CPU has changed that meanwhile. */
static __always_inline void rewrite_destination(struct destination_search *search, __u64 value)
{
	struct destination *destination = destination_at(search->found);

	if (__sync_val_compare_and_swap(&destination->value, search->value, DESTINATION_CLAIMED) == search->value)
		publish_destination(destination, search, value);
}

enum destination_readiness { DESTINATION_GIVES_WAY = 1 << 24, DESTINATION_GIVES_WAY_NOW = 2 << 24 };

/* How readily a place gives way: a free or ended one, else what is not in use, the longest idle first. 0: never. */
static __always_inline __u32 destination_readiness(__u64 value, __u64 now)
{
	const struct settings *settings = settings_now();
	__u64 kept = (__u64)DESTINATION_KEPT_SECONDS * settings->jiffies_per_second >> CONSTANT(AGE_SHIFT);
	__u32 state = destination_state(value);

	if (state == DESTINATION_FREE || (state != DESTINATION_CLAIMED && destination_ended(value, now)))
		return DESTINATION_GIVES_WAY_NOW;
	if (state == DESTINATION_ONCE || (state == DESTINATION_AGAIN && destination_idle(value, now) > kept))
		return DESTINATION_GIVES_WAY + destination_idle(value, now);
	return 0;
}

/* destination_victim's word. */
enum destination_victim { DESTINATION_ROOM_SHIFT = 34, DESTINATION_READINESS_SHIFT = 38 };

/* The place of a bucket that gives way most readily, in one word as client_victim's of persist.h. */
__noinline __u64 destination_victim(__u32 index, __u64 now)
{
	struct destination_bucket *bucket = AT(destinations, index);
	__u64 best = 0, room = 0;

	for (__u64 i = 0; i < DESTINATIONS_PER_BUCKET; i++) {
		__u64 readiness = destination_readiness(READ_WORD(bucket->destination[i].value), now);

		room += readiness == DESTINATION_GIVES_WAY_NOW;
		if (readiness > best >> DESTINATION_READINESS_SHIFT)
			best = readiness << DESTINATION_READINESS_SHIFT | ((__u64)index * DESTINATIONS_PER_BUCKET + i);
	}
	return best | room << DESTINATION_ROOM_SHIFT;
}

/* Writes a destination's first note: the backends of `search`, of which there is one. */
static __always_inline void insert_destination(struct destination_search *search, __u64 now)
{
	__u64 first = destination_victim(destination_bucket(search->hash, false), now), value;
	__u64 second = destination_victim(destination_bucket(search->hash, true), now);
	__u64 victim = first >> DESTINATION_ROOM_SHIFT >= second >> DESTINATION_ROOM_SHIFT ? first : second;
	struct destination *destination = destination_at(victim & ((1ULL << DESTINATION_ROOM_SHIFT) - 1));

	if (!(victim >> DESTINATION_READINESS_SHIFT)) {
		count(own_cpu(bpf_get_smp_processor_id()), DESTINATION_REFUSED_FULL);
		return;
	}
	value = READ_WORD(destination->value);
	/* Still to be had? If not, the next flow notes it. */
	if (destination_readiness(value, now) &&
	    __sync_val_compare_and_swap(&destination->value, value, DESTINATION_CLAIMED) == value)
		publish_destination(destination, search, changed_now(used_now(value, DESTINATION_ONCE, now), 1, now));
}

#endif
