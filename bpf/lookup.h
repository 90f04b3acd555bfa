/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How a flow's entry is found, in whichever flow table it stands (flow.h). */
#ifndef XLB_LOOKUP_H
#define XLB_LOOKUP_H

#include "flow.h"
#include "prefix_flow6.h"

static __always_inline struct flow *find_in_bucket4(struct flow_bucket *bucket, const struct flow_place *place,
						    __u64 *value)
{
#pragma unroll
	for (int i = 0; i < FLOWS_PER_BUCKET; i++) {
		struct flow *flow = &bucket->flow[i];

		if (flow_read(flow, place->key, value) && is_flows_value(place->match, *value))
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

		if (flow6_read(flow6, place, value) && is_flows_value(place->match, *value))
			return &flow6->flow;
	}
	return NULL;
}

static __always_inline struct flow *find_in_bucket(__u32 bucket, const struct flow_place *place, __u64 *value)
{
	return place->table == FLOWS6 ? find_in_bucket6(AT(flows6, bucket), place, value)
				      : find_in_bucket4(AT(flows, bucket), place, value);
}

/* The flow's entry and its value, or NULL. `prefix6` as flow_locate has it. */
static __always_inline struct flow *flow_find(struct flow_place *place, const struct packet *packet, __u64 *value,
					      bool prefix6)
{
	struct flow *flow;

	if (prefix6)
		return prefix_flow6_find(place, packet, value);
	flow = find_in_bucket(place->index[0], place, value);
	place->found = place->index[0];
	if (!flow) {
		flow = find_in_bucket(place->index[1], place, value);
		place->found = place->index[1];
	}
	return flow;
}

/* As flow_value_of, but of a prefix of IPv6. Not inlined: the verifier proves it once. */
__noinline __u64 short_flow_value_of(const struct packet *packet, __u32 service_id)
{
	struct flow_place place;
	__u64 value = 0;

	if (!packet)
		return 0;
	flow_locate(&place, packet, service_id, false);
	return flow_find(&place, packet, &value, false) ? value : 0;
}

/* The value of a flow's entry, 0 if it has none. */
static __always_inline __u64 flow_value_of(const struct packet *packet, __u32 service_id)
{
	__u64 at = 0; /* Linux 6.1 wants all that a function is given to be written */

	if (is_for_prefix6(packet))
		return find_prefix_flow6(packet, flow_key(packet->source_port_be, service_id), &at);
	return short_flow_value_of(packet, service_id);
}

#endif
