/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The short way through the flow table, for packets of flows whose entry is settled and was refreshed in this unit of
 * age.
 */
#ifndef XLB_SETTLED_H
#define XLB_SETTLED_H

#include "flow.h"
#include "parse6.h"
#include "prefix_flow6.h"
#include "slots.h"

/* Does an entry's value tell of a settled flow that was refreshed in this unit of age? `value` is such a one's. */
static __always_inline bool is_settled(__u64 found, __u64 value)
{
	return !((found ^ value) & ~((__u64)FLOW_BACKEND_MASK << FLOW_BACKEND_SHIFT));
}

static __always_inline __u32 settled_in_bucket(const struct flow_bucket *bucket, __u64 key, __u64 value)
{
	const struct flow *flow = bucket->flow;

#pragma unroll
	for (int i = 0; i < FLOWS_PER_BUCKET; i++, flow++) {
		__u64 found;

		if (flow_read(flow, key, &found) && is_settled(found, value))
			return flow_backend(found);
	}
	return SLOT_NONE;
}

/*
 * The backend of a flow whose entry is settled and was refreshed in this unit of age: all of it but the backend is
 * known, and nothing is to be written. SLOT_NONE: backend_by_flow shall see.
 */
static __always_inline __u32 settled_backend(const struct service *service, __u64 source, __be16 port_be)
{
	struct flow_place place;
	__u64 value;
	__u32 found;

	flow_locate4(&place, source, port_be, service->id);
	value = flow_value(place.match, 0, service->settled, clock_age());
	found = settled_in_bucket(AT(flows, place.index[0]), place.key, value);
	return found != SLOT_NONE ? found : settled_in_bucket(AT(flows, place.index[1]), place.key, value);
}

static __always_inline __u32 settled_in_bucket6(struct flow6_bucket *bucket, const struct flow_place *place,
						__u64 value)
{
#pragma unroll
	for (int i = 0; i < FLOWS6_PER_BUCKET; i++) {
		__u64 found;

		if (flow6_read(&bucket->flow6[i], place, &found) && is_settled(found, value))
			return flow_backend(found);
	}
	return SLOT_NONE;
}

/* As settled_backend, of an IPv6 flow. */
static __always_inline __u32 settled_backend6(const struct service *service, struct address6 source,
					      __be16 source_port_be, __be16 port_be)
{
	struct flow_place place;
	__u64 value;
	__u32 found;

	flow_locate6(&place, source, source_port_be, port_be, service->id);
	value = flow_value(place.match, 0, service->settled, clock_age());
	found = settled_in_bucket6(AT(flows6, place.index[0]), &place, value);
	return found != SLOT_NONE ? found : settled_in_bucket6(AT(flows6, place.index[1]), &place, value);
}

/* As settled_backend, of a plain frame to an address of an IPv6 prefix. */
static __always_inline __u32 settled_prefix_backend6(const struct service *service, const struct plain_frame6 *frame)
{
	struct address6 source = plain_source6(frame), destination = plain_destination6(frame);
	__u64 key = flow_key(LOAD(frame->source_port_be), service->id), value;
	struct flow_place place;

	flow_hashed(&place, prefix_flow6_hash(&source, &destination, key, LOAD(frame->port_be)), LOAD(frame->port_be));
	value = flow_value(place.match, 0, service->settled, clock_age());
#pragma unroll
	for (__u32 i = 0; i < 2 * PREFIX_FLOWS6_PER_BUCKET; i++) {
		__u64 bucket = place.index[i / PREFIX_FLOWS6_PER_BUCKET], found;
		__u64 own = bucket * PREFIX_FLOWS6_PER_BUCKET + i % PREFIX_FLOWS6_PER_BUCKET;

		if (prefix_flow6_read(prefix_flow6_at(own), &source, &destination, key, &found) &&
		    is_settled(found, value))
			return flow_backend(found);
	}
	return SLOT_NONE;
}

#endif
