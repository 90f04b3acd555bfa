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
#include "connections.h"
#include "hash.h"
#include "maps.h"
#include "parse.h"
#include "verdict.h"

#define READ_WORD(word)         (*(volatile __u64 *)&(word))
#define WRITE_WORD(word, value) (*(volatile __u64 *)&(word) = (value))

#define FLOW_CHECK_BITS 0xfffffULL
#define FLOW_MATCH_MASK (FLOW_CHECK_BITS << FLOW_CHECK_SHIFT | 0xffffULL)

/* Each is named as its table. */
enum flow_table { FLOWS, FLOWS6, PREFIX_FLOWS6 };

/*
 * Where a flow may stand, and what makes an entry its own. Of an IPv6 prefix (PREFIX_FLOWS6) what is more than fits the
 * stack is with the packet: prefix_flow6.h. Its match has check bits once its entry was found, and no index is known.
 */
struct flow_place {
	__u64 key;
	__u64 match;            /* check bits and destination port, as they stand in a value */
	struct address6 source; /* in flows6 alone */
	__u32 index[2];         /* of the two buckets, in its table */
	__u32 found;            /* the one that flow_find found it in */
	__u32 table;            /* enum flow_table */
};

static __always_inline __u64 clock_age(void)
{
	return bpf_jiffies64() >> CONSTANT(AGE_SHIFT);
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
	place->table = FLOWS;
	place->key = source | (__u64)service_id << FLOW_SERVICE_SHIFT;
	flow_hashed(place, hash_mix(place->key, CONSTANT64(FLOW_SEED) + ((__u64)port_be << 1)), port_be);
}

/* Of IPv6, whose addresses stand before it. */
static __always_inline __u64 flow_key(__be16 source_port_be, __u16 service_id)
{
	return (__u64)source_port_be << FLOW_PORT_SHIFT | (__u64)service_id << FLOW_SERVICE_SHIFT;
}

static __always_inline void flow_locate6(struct flow_place *place, struct address6 source, __be16 source_port_be,
					 __be16 port_be, __u16 service_id)
{
	__u64 seed = CONSTANT64(FLOW_SEED) + ((__u64)port_be << 1);

	place->table = FLOWS6;
	place->source = source;
	place->key = flow_key(source_port_be, service_id);
	flow_hashed(place, hash_mix(hash_address6(source.high, source.low, seed) + place->key, seed), port_be);
}

/* `prefix6`: the packet is for a prefix of IPv6. A constant of whoever asks, so that no code of it is in the other's.
 */
static __always_inline void flow_locate(struct flow_place *place, const struct packet *packet, __u16 service_id,
					bool prefix6)
{
	if (prefix6) {
		place->table = PREFIX_FLOWS6;
		place->key = flow_key(packet->source_port_be, service_id);
		place->match = packet->port_be;
	} else if (packet->is_ipv6 | packet->is_prefix) {
		flow_locate6(place, packet->source6, packet->source_port_be, packet->port_be, service_id);
	} else {
		flow_locate4(place, packet_source(packet), packet->port_be, service_id);
	}
}

/* What an entry says of a flow. False: it is another's, or changed hands while it was read. */
static __always_inline bool flow_read(const struct flow *flow, __u64 key, __u64 *value)
{
	if (READ_WORD(flow->key) != key)
		return false;
	*value = READ_WORD(flow->value);
	return READ_WORD(flow->key) == key;
}

static __always_inline bool holds_address6(const struct address6 *held, struct address6 address)
{
	return !((READ_WORD(held->high) ^ address.high) | (READ_WORD(held->low) ^ address.low));
}

/* As flow_read. The source is compared before and after the value is taken, as the key is. */
static __always_inline bool flow6_read(const struct flow6 *flow6, const struct flow_place *place, __u64 *value)
{
	return holds_address6(&flow6->source, place->source) && flow_read(&flow6->flow, place->key, value) &&
	       holds_address6(&flow6->source, place->source);
}

/* Is this value of the flow that has this match, and of an entry that a writer is done with? */
static __always_inline bool is_flows_value(__u64 match, __u64 value)
{
	return !((value ^ match) & FLOW_MATCH_MASK) && flow_state(value) > FLOW_CLAIMED;
}

/* Tells flow sync, when it reads, that a bucket has changed. `bucket` is what AT makes an index of. */
static __always_inline void note_change(enum flow_table table, __u64 bucket)
{
	struct flow_changes *changes = AT(flow_changes, bpf_get_smp_processor_id());

	if (table == PREFIX_FLOWS6) {
		APPLY_CONSTANT(bucket, &=, MASK_prefix_flows6);
		bucket |= FLOW_CHANGE_PREFIX6;
	} else if (table == FLOWS6) {
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

/*
 * Refreshes an entry's age and state. Written only when one of them changes; a lost race is another packet's refresh.
 * Answers the state that it then has, FLOW_FREE where nothing was to be written.
 */
static __always_inline __u32 flow_touch(const struct flow_place *place, struct flow *flow, __u64 value,
					const struct packet *packet, __u64 now)
{
	const __u64 mask = (__u64)FLOW_AGE_MASK << FLOW_AGE_SHIFT | (__u64)FLOW_STATE_MASK << FLOW_STATE_SHIFT;
	__u32 before = flow_state(value), after;

	/* What most packets find: established, and refreshed in this unit of age already. */
	if (likely((value & mask) ==
		       ((now & FLOW_AGE_MASK) << FLOW_AGE_SHIFT | (__u64)FLOW_ESTABLISHED << FLOW_STATE_SHIFT) &&
		   !(packet->tcp_flags & (TCP_FIN | TCP_RST))))
		return FLOW_FREE;
	after = next_state(before, packet, flow_idle(value, now));
	if (after == before && !flow_idle(value, now))
		return FLOW_FREE;
	if (__sync_val_compare_and_swap(&flow->value, value,
					flow_value(place->match, flow_backend(value), after, now)) != value ||
	    after == before)
		return after;
	if (counts_as(after) != counts_as(before))
		count_entry(place->key, value, counts_as(after) - counts_as(before));
	note_change(place->table, place->found);
	return after;
}

#endif
