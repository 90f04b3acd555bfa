/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The flow table: which backend a connection was given. Written without locks, by cmpxchg on an entry's value word.
 *
 * Why no packet ever gets another flow's backend: a writer first makes the value FLOW_CLAIMED, then stores the key,
 * then the new value; a reader compares the key, takes the value, and compares the key again. If both keys are its own
 * and the value carries its own check bits, the value belongs to the flow; in any other case it is a miss, and a miss
 * is harmless.
 */
#ifndef XLB_FLOW_H
#define XLB_FLOW_H

#include "config.h"
#include "hash.h"
#include "maps.h"
#include "parse.h"
#include "verdict.h"

#define READ_WORD(word)         (*(volatile __u64 *)&(word))
#define WRITE_WORD(word, value) (*(volatile __u64 *)&(word) = (value))

#define FLOW_CHECK_BITS 0xfffffULL
#define FLOW_MATCH_MASK (FLOW_CHECK_BITS << FLOW_CHECK_SHIFT | 0xffffULL)

/* Where a flow may stand, and what makes an entry its own. */
struct flow_place {
	__u64 key;
	__u64 match;            /* check bits and destination port, as they stand in a value */
	struct address6 source; /* of IPv6 alone */
	__u32 index[2];         /* of the two buckets, in flows or in flows6 */
	__u32 found;            /* the one that flow_find found it in */
	__u32 is_ipv6;
};

static __always_inline __u64 clock_age(void)
{
	return bpf_jiffies64() >> CONSTANT(AGE_SHIFT);
}

static __always_inline __u32 flow_state(__u64 value)
{
	return value >> FLOW_STATE_SHIFT & FLOW_STATE_MASK;
}

static __always_inline __u32 flow_backend(__u64 value)
{
	return value >> FLOW_BACKEND_SHIFT & FLOW_BACKEND_MASK;
}

/* Units of age since the entry was last used; an entry left alone for 4,096 of them looks young again, and is then
 * kept. */
static __always_inline __u32 flow_idle(__u64 value, __u64 now)
{
	return (now - (value >> FLOW_AGE_SHIFT)) & FLOW_AGE_MASK;
}

static __always_inline const struct settings *settings_now(void)
{
	struct settings *now = &settings[0];

	OPAQUE(now);
	return now;
}

static __always_inline bool flow_expired(__u64 value, __u64 now)
{
	return flow_idle(value, now) > settings_now()->timeout[flow_state(value)];
}

static __always_inline __u64 flow_value(__u64 match, __u32 backend, __u32 state, __u64 now)
{
	return match | (__u64)(backend & FLOW_BACKEND_MASK) << FLOW_BACKEND_SHIFT | (__u64)state << FLOW_STATE_SHIFT |
	       now << (64 - FLOW_AGE_BITS) >> (64 - FLOW_AGE_BITS - FLOW_AGE_SHIFT);
}

/* The two buckets, and the check bits, from a flow's hash. */
static __always_inline void flow_hashed(struct flow_place *place, __u64 hash, __be16 port_be)
{
	OPAQUE(hash); /* clang would multiply once more, by the constant shifted */
	place->match = hash << FLOW_CHECK_SHIFT | port_be;
	place->index[0] = hash >> 32;
	/* The second differs from the first by bits that the first does not depend on. */
	place->index[1] = (place->index[0] ^ ((__u32)hash * 0x9e3779b1U >> 7));
}

/* Finds the two buckets. */
static __always_inline void flow_locate4(struct flow_place *place, __u64 source, __be16 port_be, __u16 service_id)
{
	place->is_ipv6 = false;
	place->key = source | (__u64)service_id << FLOW_SERVICE_SHIFT;
	flow_hashed(place, hash_mix(place->key, CONSTANT64(FLOW_SEED) + ((__u64)port_be << 1)), port_be);
}

static __always_inline void flow_locate6(struct flow_place *place, struct address6 source, __be16 source_port_be,
					 __be16 port_be, __u16 service_id)
{
	__u64 seed = CONSTANT64(FLOW_SEED) + ((__u64)port_be << 1);

	place->is_ipv6 = true;
	place->source = source;
	place->key = (__u64)source_port_be << FLOW_PORT_SHIFT | (__u64)service_id << FLOW_SERVICE_SHIFT;
	flow_hashed(place, hash_mix(hash_address6(source.high, source.low, seed) + place->key, seed), port_be);
}

static __always_inline void flow_locate(struct flow_place *place, const struct packet *packet, __u16 service_id)
{
	if (packet->is_ipv6)
		flow_locate6(place, packet->source6, packet->source_port_be, packet->port_be, service_id);
	else
		flow_locate4(place, packet_source(packet), packet->port_be, service_id);
}

/* What an entry says of a flow. False: it is another's, or changed hands while it was read. */
static __always_inline bool flow_read(const struct flow *flow, __u64 key, __u64 *value)
{
	if (READ_WORD(flow->key) != key)
		return false;
	*value = READ_WORD(flow->value);
	return READ_WORD(flow->key) == key;
}

static __always_inline bool is_source6(const struct flow6 *flow6, struct address6 source)
{
	return !((READ_WORD(flow6->source.high) ^ source.high) | (READ_WORD(flow6->source.low) ^ source.low));
}

/* As flow_read. The source is compared before and after the value is taken, as the key is. */
static __always_inline bool flow6_read(const struct flow6 *flow6, const struct flow_place *place, __u64 *value)
{
	return is_source6(flow6, place->source) && flow_read(&flow6->flow, place->key, value) &&
	       is_source6(flow6, place->source);
}

/* Is this value of the flow of `place`, and of an entry that a writer is done with? */
static __always_inline bool is_flows_value(const struct flow_place *place, __u64 value)
{
	return !((value ^ place->match) & FLOW_MATCH_MASK) && flow_state(value) > FLOW_CLAIMED;
}

static __always_inline struct flow *find_in_bucket4(struct flow_bucket *bucket, const struct flow_place *place,
						    __u64 *value)
{
#pragma unroll
	for (int i = 0; i < FLOWS_PER_BUCKET; i++) {
		struct flow *flow = &bucket->flow[i];

		if (flow_read(flow, place->key, value) && is_flows_value(place, *value))
			return flow;
	}
	return NULL;
}

static __always_inline struct flow *find_in_bucket6(struct flow6_bucket *bucket, const struct flow_place *place,
						    __u64 *value)
{
#pragma unroll
	for (int i = 0; i < FLOWS6_PER_BUCKET; i++) {
		struct flow6 *flow6 = &bucket->flow6[i];

		if (flow6_read(flow6, place, value) && is_flows_value(place, *value))
			return &flow6->flow;
	}
	return NULL;
}

static __always_inline struct flow *find_in_bucket(__u32 bucket, const struct flow_place *place, __u64 *value)
{
	return place->is_ipv6 ? find_in_bucket6(AT(flows6, bucket), place, value)
			      : find_in_bucket4(AT(flows, bucket), place, value);
}

/* The flow's entry and its value, or NULL. */
static __always_inline struct flow *flow_find(struct flow_place *place, __u64 *value)
{
	struct flow *flow = find_in_bucket(place->index[0], place, value);

	place->found = place->index[0];
	if (!flow) {
		flow = find_in_bucket(place->index[1], place, value);
		place->found = place->index[1];
	}
	return flow;
}

/* The value of a flow's entry, 0 if it has none. Not inlined: the verifier proves it once. */
__noinline __u64 flow_value_of(const struct packet *packet, __u32 service_id)
{
	struct flow_place place;
	__u64 value = 0;

	if (!packet)
		return 0;
	flow_locate(&place, packet, service_id);
	return flow_find(&place, &value) ? value : 0;
}

/* Tells flow sync, when it reads, that a bucket has changed. `bucket` is what AT makes an index of. */
static __always_inline void note_change(const struct flow_place *place, __u64 bucket)
{
	struct flow_changes *changes = AT(flow_changes, bpf_get_smp_processor_id());

	if (place->is_ipv6) {
		APPLY_CONSTANT(bucket, &=, MASK_flows6);
		bucket |= FLOW_CHANGE_IPV6;
	} else {
		APPLY_CONSTANT(bucket, &=, MASK_flows);
	}
	changes->bucket[changes->written % FLOW_CHANGES_PER_CPU] = bucket;
	WRITE_WORD(changes->written, changes->written + 1);
}

/*
 * The state after this packet, of which a director sees the client's half alone. An adopted or once-seen flow has to be
 * seen again in a later unit of age before it counts as established: random packets are seen once.
 */
static __always_inline __u32 next_state(__u32 state, const struct packet *packet, bool later)
{
	if (packet->tcp_flags & TCP_RST)
		return FLOW_CLOSED;
	if (packet->tcp_flags & TCP_FIN && state != FLOW_CLOSED)
		return FLOW_CLOSING;
	if (state == FLOW_HALF_OPEN && !opens_connection(packet))
		return FLOW_ESTABLISHED;
	if (state == FLOW_ADOPTED && later)
		return FLOW_ESTABLISHED;
	if (state == FLOW_UDP_ONCE && later)
		return FLOW_UDP;
	return state;
}

/* Refreshes an entry's age and state. Written only when one of them changes; a lost race is another packet's refresh.
 */
static __always_inline void flow_touch(const struct flow_place *place, struct flow *flow, __u64 value,
				       const struct packet *packet, __u64 now)
{
	const __u64 mask = (__u64)FLOW_AGE_MASK << FLOW_AGE_SHIFT | (__u64)FLOW_STATE_MASK << FLOW_STATE_SHIFT;
	__u32 before = flow_state(value), after;

	/* What most packets find: established, and refreshed in this unit of age already. */
	if (likely((value & mask) ==
		       ((now & FLOW_AGE_MASK) << FLOW_AGE_SHIFT | (__u64)FLOW_ESTABLISHED << FLOW_STATE_SHIFT) &&
		   !(packet->tcp_flags & (TCP_FIN | TCP_RST))))
		return;
	after = next_state(before, packet, flow_idle(value, now));
	if (after == before && !flow_idle(value, now))
		return;
	__sync_val_compare_and_swap(&flow->value, value, flow_value(place->match, flow_backend(value), after, now));
	if (after != before)
		note_change(place, place->found);
}

/* ---- recording a new flow ---- */

enum readiness { FLOW_NEVER, FLOW_GIVES_WAY_LAST = 1 << 12, FLOW_GIVES_WAY = 2 << 12, FLOW_GIVES_WAY_NOW = 3 << 12 };

/*
 * How readily an entry gives way: free or expired, then half-open, then closing; an established one never. To the
 * middle two the idle time is added: among equals the oldest goes.
 */
static __always_inline __u32 readiness(__u64 value, __u64 now)
{
	__u32 state = flow_state(value);

	if (state == FLOW_FREE)
		return FLOW_GIVES_WAY_NOW;
	if (state == FLOW_CLAIMED)
		return FLOW_NEVER;
	if (flow_expired(value, now))
		return FLOW_GIVES_WAY_NOW;
	if (state == FLOW_HALF_OPEN || state == FLOW_ADOPTED || state == FLOW_UDP_ONCE)
		return FLOW_GIVES_WAY | flow_idle(value, now);
	if (state == FLOW_CLOSING || state == FLOW_CLOSED)
		return FLOW_GIVES_WAY_LAST | flow_idle(value, now);
	return FLOW_NEVER;
}

/* The place of a bucket that gives way most readily. */
struct victim {
	__u64 value;
	__u32 place;
	__u32 readiness; /* 0: none gives way */
	__u32 free;      /* free places in the bucket */
	__u32 reserved;
};

/* Compares a further place of the bucket with the victim so far. */
static __always_inline void weigh_victim(struct victim *victim, __u32 place, __u64 value, __u64 now)
{
	__u32 ready = readiness(value, now);

	victim->free += ready == FLOW_GIVES_WAY_NOW;
	if (ready > victim->readiness) {
		victim->value = value;
		victim->place = place;
		victim->readiness = ready;
	}
}

static __always_inline void no_victim(struct victim *victim)
{
	victim->readiness = victim->free = victim->place = victim->reserved = 0;
	victim->value = 0;
}

/*
 * A function of its own, not inlined: the verifier then proves it once, where it would else follow every combination of
 * eight entries' states through the rest of the program. Inserts alone pay for the call.
 */
__noinline int flow_victim(__u32 bucket, __u32 now, struct victim *victim)
{
	struct flow_bucket *found = AT(flows, bucket);

	if (!victim)
		return 0;
	no_victim(victim);
	for (int i = 0; i < FLOWS_PER_BUCKET; i++)
		weigh_victim(victim, i, READ_WORD(found->flow[i].value), now);
	return 0;
}

__noinline int flow6_victim(__u32 bucket, __u32 now, struct victim *victim)
{
	struct flow6_bucket *found = AT(flows6, bucket);

	if (!victim)
		return 0;
	no_victim(victim);
	for (int i = 0; i < FLOWS6_PER_BUCKET; i++)
		weigh_victim(victim, i, READ_WORD(found->flow6[i].flow.value), now);
	return 0;
}

static __always_inline void find_victim(const struct flow_place *place, __u32 bucket, __u32 now, struct victim *victim)
{
	if (place->is_ipv6)
		flow6_victim(bucket, now, victim);
	else
		flow_victim(bucket, now, victim);
}

/* A claimed entry gets its key. */
static __always_inline void write_key(const struct flow_place *place, struct flow *flow)
{
	if (place->is_ipv6) {
		struct flow6 *flow6 = (void *)flow - __builtin_offsetof(struct flow6, flow);

		WRITE_WORD(flow6->source.high, place->source.high);
		WRITE_WORD(flow6->source.low, place->source.low);
	}
	WRITE_WORD(flow->key, place->key);
}

/* The entry at a place of a bucket. */
static __always_inline struct flow *flow_at(const struct flow_place *place, __u32 bucket, __u32 at)
{
	return place->is_ipv6 ? &AT(flows6, bucket)->flow6[at % FLOWS6_PER_BUCKET].flow
			      : &AT(flows, bucket)->flow[at % FLOWS_PER_BUCKET];
}

/* Takes a place that gives way, in the emptier of the two buckets. False: refused, and counted. */
static __always_inline bool flow_insert(struct cpu *cpu, const struct flow_place *place, __u64 value)
{
	const __u64 claimed = (__u64)FLOW_CLAIMED << FLOW_STATE_SHIFT;
	__u32 now = value >> FLOW_AGE_SHIFT & FLOW_AGE_MASK;
	__u32 bucket = place->index[0];
	struct victim victim = {}, other = {};
	struct flow *flow;

	find_victim(place, place->index[0], now, &victim);
	find_victim(place, place->index[1], now, &other);
	if (other.readiness > victim.readiness || (other.readiness == victim.readiness && other.free > victim.free)) {
		victim = other;
		bucket = place->index[1];
	}
	if (!victim.readiness) {
		count(cpu, FLOW_REFUSED_FULL);
		return false;
	}
	flow = flow_at(place, bucket, victim.place);
	if (__sync_val_compare_and_swap(&flow->value, victim.value, claimed) != victim.value) {
		count(cpu, FLOW_REFUSED_RACE);
		return false;
	}
	write_key(place, flow);
	/* A cmpxchg, not a store: it orders the key before the value on every machine. */
	__sync_val_compare_and_swap(&flow->value, claimed, value);
	count(cpu, FLOW_INSERTED);
	note_change(place, bucket);
	return true;
}

/* Gives a flow that has an entry another backend, in place. False: another CPU was first; counted. */
static __always_inline bool flow_replace(struct cpu *cpu, const struct flow_place *place, struct flow *flow,
					 __u64 before, __u64 value)
{
	if (__sync_val_compare_and_swap(&flow->value, before, value) != before) {
		count(cpu, FLOW_REFUSED_RACE);
		return false;
	}
	count(cpu, FLOW_INSERTED);
	note_change(place, place->found);
	return true;
}

#endif
