/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Flows to addresses of an IPv6 prefix, in a table of their own (struct prefix_flow6): which one a flow is of is told
 * by both its addresses. All rules of the flow table hold (flow.h): source and destination are written and compared
 * together with the key.
 */
#ifndef XLB_PREFIX_FLOW6_H
#define XLB_PREFIX_FLOW6_H

#include "flow.h"

/* From which a flow's buckets and check bits come. `key` as flow_key makes it. */
static __always_inline __u64 prefix_flow6_hash(const struct address6 *source, const struct address6 *destination,
					       __u64 key, __be16 port_be)
{
	__u64 seed = CONSTANT64(FLOW_SEED) + ((__u64)port_be << 1);

	return hash_addresses6(hash_address6(source->high, source->low, seed),
			       hash_address6(destination->high, destination->low, seed), key, seed);
}

/* Has an entry both addresses? They are compared where they stand: copies would take more of the stack than there is.
 */
static __always_inline bool holds_addresses6(const struct prefix_flow6 *entry, const struct address6 *source,
					     const struct address6 *destination)
{
	return READ_WORD(entry->source.low) == source->low && READ_WORD(entry->destination.low) == destination->low &&
	       READ_WORD(entry->source.high) == source->high && READ_WORD(entry->destination.high) == destination->high;
}

/* As flow_read. */
static __always_inline bool prefix_flow6_read(const struct prefix_flow6 *entry, const struct address6 *source,
					      const struct address6 *destination, __u64 key, __u64 *value)
{
	return holds_addresses6(entry, source, destination) && flow_read(&entry->flow, key, value) &&
	       holds_addresses6(entry, source, destination);
}

/* The entry at a place, counted over all buckets. */
static __always_inline struct prefix_flow6 *prefix_flow6_at(__u64 place)
{
	struct prefix_flow6_bucket *bucket = AT(prefix_flows6, place / PREFIX_FLOWS6_PER_BUCKET);

	return &bucket->prefix_flow6[place % PREFIX_FLOWS6_PER_BUCKET];
}

/* The value at a place, if it is of the flow that a packet is of; else 0. Not inlined: the stack is short where it is
 * asked. */
__noinline __u64 prefix_flow6_value(const struct packet *packet, __u64 key, __u64 place)
{
	__u64 value;

	if (!packet || !prefix_flow6_read(prefix_flow6_at(place), &packet->source6, &packet->vip6, key, &value))
		return 0;
	return flow_state(value) > FLOW_CLAIMED ? value : 0;
}

/* The value of a flow's entry, and the place where it stands; 0: it has none. Not inlined: the verifier proves it once.
 */
__noinline __u64 find_prefix_flow6(const struct packet *packet, __u64 key, __u64 *at)
{
	struct flow_place place;

	if (!packet || !at)
		return 0;
	flow_hashed(&place, prefix_flow6_hash(&packet->source6, &packet->vip6, key, packet->port_be), packet->port_be);
	/* As in find_client (persist.h), no loop. */
#pragma unroll
	for (__u32 i = 0; i < 2 * PREFIX_FLOWS6_PER_BUCKET; i++) {
		__u64 bucket = place.index[i / PREFIX_FLOWS6_PER_BUCKET], value;

		*at = bucket * PREFIX_FLOWS6_PER_BUCKET + i % PREFIX_FLOWS6_PER_BUCKET;
		value = prefix_flow6_value(packet, key, *at);
		if (value && is_flows_value(place.match, value))
			return value;
	}
	return 0;
}

/* As flow_find. */
static __always_inline struct flow *prefix_flow6_find(struct flow_place *place, const struct packet *packet,
						      __u64 *value)
{
	__u64 at = 0, found = find_prefix_flow6(packet, place->key, &at);

	if (!found)
		return NULL;
	*value = found;
	place->match = found & FLOW_MATCH_MASK;
	place->found = at / PREFIX_FLOWS6_PER_BUCKET;
	return &prefix_flow6_at(at)->flow;
}

#endif
