/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The short ways of plain frames for no VIP, where there are prefixes, of either family. */
#ifndef XLB_BALANCE_PREFIX_H
#define XLB_BALANCE_PREFIX_H

#include "directory.h"
#include "forward.h"
#include "parse6.h"
#include "ring.h"
#include "settled.h"
#include "verdict.h"

/* A plain IPv4 frame for no VIP, where there are prefixes: a verdict, or TAKE_LONG_WAY. */
static __noinline int balance_prefix(struct xdp_md *ctx)
{
	__u64 live = LOAD(root_now()->live), cpu_number = bpf_get_smp_processor_id(), prefix, key, hashed, mask;
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	const struct interface *interface = own_interface(root_now());
	const struct plain_frame *frame = data;
	const struct service *service;
	const struct target *target;
	struct target_bucket *bucket;
	struct target further = {};
	bool is_new;
	__u32 slot;

	if ((void *)(frame + 1) > end)
		return drop(own_cpu(cpu_number), DROP_TRUNCATED); /* never: it is plain */
	prefix = find_prefix(live, LOAD(frame->destination_be));
	if (!prefix)
		return pass(own_cpu(cpu_number), PASS_NOT_VIP);
	bucket = find_vip_bucket(live, prefix);
	key = plain_key(frame) >> KEY_PORT_SHIFT << KEY_PORT_SHIFT | prefix;
	target = find_target(bucket, key);
	if (!target) {
		if (!find_further_target(bucket, key, &further))
			return pass(own_cpu(cpu_number), PASS_NO_SERVICE);
		target = &further;
	}
	service = AT(services, target->service);
	if (service->flags & SERVICE_LONG_WAY)
		return TAKE_LONG_WAY;
	if (service->flags & SERVICE_TRACKED) {
		if (service->flags & SERVICE_OPS ||
		    (!(service->flags & SERVICE_UDP) && LOAD(frame->tcp_flags) & (TCP_SYN | TCP_FIN | TCP_RST)))
			return TAKE_LONG_WAY;
		slot = settled_backend6(service, prefix_flow(LOAD(frame->source_be), LOAD(frame->destination_be)),
					LOAD(frame->source_port_be), LOAD(frame->port_be));
		return send_back(interface, service, data, end - data, cpu_number, slot, false) ? XDP_TX
												: TAKE_LONG_WAY;
	}
	mask = target->hash_mask;
	hashed = mask & HASHED_DESTINATION ? LOAD(frame->destination_be) : plain_source(frame) & mask;
	slot = ring_slot(service, hashed, ~0ULL, target->ring_seed);
	is_new = is_first(LOAD(frame->tcp_flags)) && !(service->flags & SERVICE_UDP);
	return send_back(interface, service, data, end - data, cpu_number, slot, is_new) ? XDP_TX : TAKE_LONG_WAY;
}

/* A plain IPv6 frame for no VIP, where there are prefixes: a verdict, or TAKE_LONG_WAY. */
static __noinline int balance_prefix6(struct xdp_md *ctx)
{
	__u64 live = LOAD(root_now()->live), cpu_number = bpf_get_smp_processor_id(), prefix, key;
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	const struct interface *interface = own_interface(root_now());
	const struct plain_frame6 *frame = data;
	const struct service *service;
	struct target_bucket *bucket;
	const struct target *target;
	struct target further = {};
	bool is_new;
	__u32 slot;

	if ((void *)(frame + 1) > end)
		return drop(own_cpu(cpu_number), DROP_TRUNCATED); /* never: it is plain */
	prefix = find_prefix6(live, bpf_be64_to_cpu(LOAD(frame->destination.high)),
			      bpf_be64_to_cpu(LOAD(frame->destination.low)));
	if (!prefix)
		return pass(own_cpu(cpu_number), PASS_NOT_VIP);
	bucket = find_vip_bucket(live, prefix);
	key = plain_key6(frame, prefix) | 1ULL << KEY_PREFIX_SHIFT;
	target = find_target(bucket, key);
	if (!target) {
		if (!find_further_target(bucket, key, &further))
			return pass(own_cpu(cpu_number), PASS_NO_SERVICE);
		target = &further;
	}
	service = AT(services, target->service);
	if (service->flags & SERVICE_LONG_WAY)
		return TAKE_LONG_WAY;
	if (service->flags & SERVICE_TRACKED) {
		if (service->flags & SERVICE_OPS ||
		    (!(service->flags & SERVICE_UDP) && LOAD(frame->tcp_flags) & (TCP_SYN | TCP_FIN | TCP_RST)))
			return TAKE_LONG_WAY;
		slot = settled_prefix_backend6(service, frame);
		return send_back(interface, service, data, end - data, cpu_number, slot, false) ? XDP_TX
												: TAKE_LONG_WAY;
	}
	if (target->hash_mask & HASHED_DESTINATION)
		slot = ring_slot6(service, plain_destination6(frame), 0, 0, target->ring_seed);
	else
		slot = ring_slot6(service, plain_source6(frame), LOAD(frame->source_port_be), target->hash_mask,
				  target->ring_seed);
	is_new = is_first(LOAD(frame->tcp_flags)) && !(service->flags & SERVICE_UDP);
	return send_back(interface, service, data, end - data, cpu_number, slot, is_new) ? XDP_TX : TAKE_LONG_WAY;
}

#endif
