// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The packet's itinerary: parse, find the service, choose the backend, forward. xlb.h describes the tables on the way.
 *
 * What is not for a VIP costs one probe and goes to the stack untouched. What is for a service never reaches the stack:
 * the director would answer it with a reset, or route it.
 */
#include <linux/bpf.h>
#include "balance_prefix.h"
#include "budget.h"
#include "config.h"
#include "directory.h"
#include "filter.h"
#include "forward.h"
#include "fragment.h"
#include "maps.h"
#include "parse6.h"
#include "ring.h"
#include "schedule.h"
#include "settled.h"
#include "verdict.h"

/* capture.bpf.c has an entry of its own, which calls this one. */
#ifndef ENTRY
#define ENTRY SEC("xdp")
#endif

/* Does every packet between two addresses, of this VIP and protocol, go to one backend, whatever its ports? */
static __always_inline bool goes_by_address(const struct target_bucket *bucket, const struct target *vip, __u8 protocol)
{
	const struct service *service = AT(services, vip->service);
	const __u64 source = (1ULL << HASHED_SOURCE) - 1;

	return is_only_target(bucket, vip) && (__u8)(vip->key >> KEY_PROTOCOL_SHIFT) == protocol &&
	       (vip->hash_mask == source || vip->hash_mask == HASHED_DESTINATION) &&
	       !(service->flags & (SERVICE_TRACKED | SERVICE_MARKED));
}

/*
 * What is for no service of its VIP's bucket: not for a VIP at all, or faulty, or for a VIP with many services, or for
 * a service of several ports. Answers a verdict, unless it finds the service after all: then XDP_TX, and `further`.
 */
static __always_inline int look_further(struct target_bucket *bucket, const struct packet *packet,
					struct target *further)
{
	struct cpu *cpu = own_cpu(packet->cpu_number);
	const struct target *vip = find_vip(bucket, vip_key(packet));

	if (!vip)
		return pass(cpu, PASS_NOT_VIP);
	if (packet->fault == FAULT_NOT_BALANCED)
		return pass(cpu, PASS_NOT_BALANCED);
	if (packet->fault == FAULT_MALFORMED)
		return drop(cpu, DROP_MALFORMED);
	if (packet->fault == FAULT_TRUNCATED)
		return drop(cpu, DROP_TRUNCATED);
	if (packet->fault == FAULT_EXTENSIONS)
		return drop(cpu, DROP_EXTENSIONS);
	if (packet->fault == FAULT_FRAGMENT) {
		/* Its service is known where there is but one, and its backend where that takes no port in. Of IPv6 it
		 * may be of a ping, if it says so. */
		if (!goes_by_address(bucket, vip, packet->protocol))
			return is_balanced_protocol(packet->protocol) || is_extension(packet->protocol)
				   ? drop(cpu, DROP_FRAGMENT)
				   : pass(cpu, PASS_NOT_BALANCED);
		*further = *vip;
		return XDP_TX;
	}
	if (!find_further_target(bucket, service_key(packet), further))
		return pass(cpu, PASS_NO_SERVICE);
	return XDP_TX;
}

/* Every packet's way, the rare ones' included. */
__noinline int balance(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct packet packet = {.frame_bytes = bpf_xdp_get_buff_len(ctx), .cpu_number = bpf_get_smp_processor_id()};
	const struct interface *interface = own_interface(root_now());
	const struct service *service;
	const struct target *target;
	struct target_bucket *bucket;
	struct target further = {};
	__u32 chosen = SLOT_NONE;
	struct cpu *cpu = own_cpu(packet.cpu_number);
	__u64 live, prefix;
	int verdict;

	if (data + sizeof(struct ethhdr) > end)
		return XDP_PASS;
	if (!is_for_interface(interface, data))
		return pass(cpu, PASS_OTHER_MAC);
	if (!parse_any(ctx, &packet))
		return pass(cpu, PASS_NOT_IP);

	live = LOAD(root_now()->live);
	if (packet.is_ipv6)
		packet.vip_be = find_vip6(live, &packet.vip6);
	bucket = find_vip_bucket(live, packet.vip_be);
	if (live & LIVE_PREFIXES && !find_vip(bucket, vip_key(&packet))) {
		prefix = packet.is_ipv6
			     ? find_prefix6(live, bpf_be64_to_cpu(packet.vip6.high), bpf_be64_to_cpu(packet.vip6.low))
			     : find_prefix(live, packet.vip_be);
		if (prefix) {
			enter_prefix(&packet, prefix);
			bucket = find_vip_bucket(live, prefix);
		}
	}
	if (packet.fault == FAULT_FRAGMENT && find_vip(bucket, vip_key(&packet)))
		chosen = follow_first(&packet);
	/* A faulty packet's port and protocol are no service's: it has none. */
	target = packet.fault ? NULL : find_target(bucket, service_key(&packet));
	if (!target) {
		verdict = look_further(bucket, &packet, &further);
		if (verdict != XDP_TX)
			return verdict;
		target = &further;
	}
	packet.ring_seed = target->ring_seed;
	packet.hash_mask = target->hash_mask;
	service = AT(services, target->service);
	NOTE_SERVICE(packet.cpu_number, service);
	/* Two directors that are each other's backends would send it to and fro. */
	if (service->flags & SERVICE_LOCAL && comes_from_backend(service, data))
		return pass(cpu, PASS_FROM_PEER);
	if (service->flags & (SERVICE_POLICY | SERVICE_FILTERED)) {
		verdict = ask_filters(service, &packet, directory_of(live)->filter,
				      AT(service_policies, target->service)->filter);
		if (verdict)
			return verdict;
	}
	if (chosen == SLOT_NONE)
		chosen = is_for_prefix6(&packet) ? choose_prefix6_backend(service, &packet)
						 : choose_backend(service, &packet);
	if (packet.part == PART_FIRST && chosen < SLOT_NONE)
		lead_later(&packet, chosen);
	return forward(ctx, interface, service, data, &packet, chosen);
}

/*
 * A plain frame whose backend is not reached where it came in. Parsed already, and its backend chosen, so that only
 * what is rare after this goes by balance(). Not inlined: what is sent back shall keep its registers.
 */
static __noinline int balance_elsewhere(struct xdp_md *ctx, const struct service *service, __u32 slot, __u64 cpu_number)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	const struct plain_frame *frame = data;
	bool is_new;

	if ((void *)(frame + 1) > end)
		return drop(own_cpu(cpu_number), DROP_TRUNCATED); /* never: it is plain */
	is_new = is_first(LOAD(frame->tcp_flags)) && !(service->flags & SERVICE_UDP);
	return send_elsewhere(service, data, end - data, cpu_number, slot, is_new);
}

static __always_inline int balance_unsent(struct xdp_md *ctx, const struct service *service, __u32 slot,
					  __u64 cpu_number)
{
	int verdict = balance_elsewhere(ctx, service, slot, cpu_number);

	return verdict == TAKE_LONG_WAY ? balance(ctx) : verdict;
}

/* What of a tracked service takes more than one look. Not inlined: the frame that does not shall keep its registers. */
static __noinline int balance_unsettled(struct xdp_md *ctx, const struct service *service, const struct target *target,
					__u64 cpu_number)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct packet packet = {.frame_bytes = end - data, .cpu_number = cpu_number};
	const struct plain_frame *frame = data;
	__u32 chosen;

	if ((void *)(frame + 1) > end)
		return drop(own_cpu(cpu_number), DROP_TRUNCATED); /* never: it is plain */
	packet.ring_seed = target->ring_seed;
	packet.hash_mask = target->hash_mask;
	packet.source_be = LOAD(frame->source_be);
	packet.source_port_be = LOAD(frame->source_port_be);
	packet.port_be = LOAD(frame->port_be);
	packet.tcp_flags = service->flags & SERVICE_UDP ? 0 : LOAD(frame->tcp_flags);
	chosen = service->flags & SERVICE_OPS ? next_in_schedule(service) : choose_backend(service, &packet);
	return forward(ctx, own_interface(root_now()), service, data, &packet, chosen);
}

/*
 * A SYN beyond the bound on new flows goes by the ring alone. False: it is within, or has to be looked at more closely,
 * and nothing is done. A flood must not cost more than hashing does.
 */
static __always_inline bool send_flood(const struct interface *interface, const struct service *service,
				       const struct target *target, struct ethhdr *eth, __u64 frame_bytes,
				       __u64 cpu_number)
{
	const struct plain_frame *frame = (const void *)eth;
	struct cpu *cpu = own_cpu(cpu_number);
	__u64 now = clock_age();

	if (!is_first(LOAD(frame->tcp_flags)) || service->flags & (SERVICE_UDP | SERVICE_PERSISTENT) ||
	    !is_spent(cpu, now) ||
	    !send_back(interface, service, eth, frame_bytes, cpu_number,
		       ring_slot(service, plain_source(frame), target->hash_mask, target->ring_seed), true))
		return false;
	note_flood(cpu, now);
	return true;
}

/* A plain frame of a tracked service. Not inlined: the hashed path shall keep its registers. */
static __noinline int balance_tracked(struct xdp_md *ctx, const struct interface *interface,
				      const struct service *service, const struct target *target, __u64 cpu_number)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	const struct plain_frame *frame = data;
	bool is_settled;

	if ((void *)(frame + 1) > end)
		return drop(own_cpu(cpu_number), DROP_TRUNCATED); /* never: it is plain */
	if (service->flags & SERVICE_UDP)
		is_settled = !(service->flags & SERVICE_OPS);
	else
		is_settled = !(LOAD(frame->tcp_flags) & (TCP_SYN | TCP_FIN | TCP_RST));
	if (is_settled && send_back(interface, service, data, end - data, cpu_number,
				    settled_backend(service, plain_source(frame), LOAD(frame->port_be)), false))
		return XDP_TX;
	if (send_flood(interface, service, target, data, end - data, cpu_number))
		return XDP_TX;
	return balance_unsettled(ctx, service, target, cpu_number);
}

/*
 * A plain frame for a VIP whose bucket has no target of its port: a service of several ports, or of a VIP with many.
 * Parsed already, so that only what is rare after this goes by balance(): TAKE_LONG_WAY.
 */
static __noinline int balance_further(struct xdp_md *ctx, struct target_bucket *bucket)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	const struct interface *interface = own_interface(root_now());
	__u64 cpu_number = bpf_get_smp_processor_id();
	const struct plain_frame *frame = data;
	const struct service *service;
	struct target target = {};
	bool is_new;
	__u32 slot;

	if ((void *)(frame + 1) > end)
		return drop(own_cpu(cpu_number), DROP_TRUNCATED); /* never: it is plain */
	if (!find_further_target(bucket, plain_key(frame), &target)) {
		/* Or it is no VIP, and shares its number with a prefix, or with a handle. */
		if (LOAD(root_now()->live) & LIVE_PREFIXES)
			return TAKE_LONG_WAY;
		return pass(own_cpu(cpu_number), find_vip(bucket, plain_key(frame)) ? PASS_NO_SERVICE : PASS_NOT_VIP);
	}
	service = AT(services, target.service);
	if (service->flags & SERVICE_LONG_WAY)
		return TAKE_LONG_WAY;
	if (service->flags & SERVICE_TRACKED)
		return balance_tracked(ctx, interface, service, &target, cpu_number);
	slot = ring_slot(service, plain_source(frame), target.hash_mask, target.ring_seed);
	is_new = is_first(LOAD(frame->tcp_flags)) && !(service->flags & SERVICE_UDP);
	return send_back(interface, service, data, end - data, cpu_number, slot, is_new) ? XDP_TX : TAKE_LONG_WAY;
}

/* A plain IPv6 frame of a tracked service: a verdict, or TAKE_LONG_WAY. */
static __noinline int balance_tracked6(struct xdp_md *ctx, const struct interface *interface,
				       const struct service *service, __u64 cpu_number)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	const struct plain_frame6 *frame = data;
	__u32 slot;

	if ((void *)(frame + 1) > end)
		return drop(own_cpu(cpu_number), DROP_TRUNCATED); /* never: it is plain */
	if (service->flags & SERVICE_OPS ||
	    (!(service->flags & SERVICE_UDP) && LOAD(frame->tcp_flags) & (TCP_SYN | TCP_FIN | TCP_RST)))
		return TAKE_LONG_WAY;
	slot = settled_backend6(service, plain_source6(frame), LOAD(frame->source_port_be), LOAD(frame->port_be));
	return send_back(interface, service, data, end - data, cpu_number, slot, false) ? XDP_TX : TAKE_LONG_WAY;
}

/*
 * What is no plain IPv4 frame: the short way of plain IPv6 frames, as xlb() is that of IPv4's. A verdict, or
 * TAKE_LONG_WAY.
 */
static __always_inline int balance_ipv6(struct xdp_md *ctx)
{
	__u64 live, key, cpu_number;
	const struct interface *interface;
	const struct plain_frame6 *frame;
	const struct root *own_root;
	void *data, *end;
	const struct service *service;
	const struct target *target;
	__u32 slot, handle_be;
	bool is_new;

	/* Nothing is shared with the way of IPv4, for which it would cost registers. */
	OPAQUE(ctx);
	LOAD_ADDRESS(own_root, root);
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	frame = data;
	interface = own_interface(own_root);
	live = LOAD(own_root->live);
	if (!parse_plain6(data, end) || !is_for_interface(interface, data))
		return TAKE_LONG_WAY;
	handle_be = find_vip6(live, &frame->destination);
	if (!handle_be)
		return live & LIVE_PREFIXES ? balance_prefix6(ctx)
					    : pass(own_cpu(bpf_get_smp_processor_id()), PASS_NOT_VIP);
	key = plain_key6(frame, handle_be);
	target = find_target(find_vip_bucket(live, handle_be), key);
	if (!target)
		return TAKE_LONG_WAY;
	service = AT(services, target->service);
	if (service->flags & (SERVICE_TRACKED | SERVICE_LONG_WAY))
		return service->flags & SERVICE_LONG_WAY
			   ? TAKE_LONG_WAY
			   : balance_tracked6(ctx, interface, service, bpf_get_smp_processor_id());
	slot = ring_slot6(service, plain_source6(frame), LOAD(frame->source_port_be), target->hash_mask,
			  target->ring_seed);
	cpu_number = bpf_get_smp_processor_id();
	is_new = is_first(LOAD(frame->tcp_flags)) && !(service->flags & SERVICE_UDP);
	return send_back(interface, service, data, ctx->data_end - ctx->data, cpu_number, slot, is_new) ? XDP_TX
													: TAKE_LONG_WAY;
}

static __always_inline int balance_no_vip(struct xdp_md *ctx)
{
	int verdict = balance_prefix(ctx);

	return verdict == TAKE_LONG_WAY ? balance(ctx) : verdict;
}

/*
 * What nearly all packets need, and nothing else: whatever is not plain goes by balance(), from the start. The two are
 * functions of their own because the short way must stay short: what a packet costs is decided by how many instructions
 * it runs through (docs/decisions/0007-a-short-way-of-few-instructions.md).
 */
ENTRY
int xlb(struct xdp_md *ctx)
{
	/* Before all else: what is in registers would have to leave them for a call, even for one that becomes a load.
	 */
	__u64 cpu_number = bpf_get_smp_processor_id(), key;
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	const struct root *root = root_now();
	const struct interface *interface = own_interface(root);
	const struct plain_frame *frame = data;
	const struct service *service;
	const struct target *target;
	struct target_bucket *bucket;
	bool is_new;
	int verdict;
	__u32 slot;

	if (!parse_plain(data, end, &key) || !is_for_interface(interface, data)) {
		verdict = balance_ipv6(ctx);
		return verdict == TAKE_LONG_WAY ? balance(ctx) : verdict;
	}
	bucket = find_vip_bucket(LOAD(root->live), key);
	target = find_target(bucket, key);
	if (!target) {
		OPAQUE(bucket); /* or clang would keep what it has read of it for here */
		if (may_be_vip(bucket, LOAD(frame->destination_be))) {
			verdict = balance_further(ctx, bucket);
			return verdict == TAKE_LONG_WAY ? balance(ctx) : verdict;
		}
		return LOAD(root_now()->live) & LIVE_PREFIXES ? balance_no_vip(ctx)
							      : pass(own_cpu(cpu_number), PASS_NOT_VIP);
	}
	service = AT(services, target->service);
	if (service->flags & (SERVICE_TRACKED | SERVICE_LONG_WAY))
		return service->flags & SERVICE_LONG_WAY ? balance(ctx)
							 : balance_tracked(ctx, interface, service, target, cpu_number);
	slot = ring_slot(service, plain_source(frame), target->hash_mask, target->ring_seed);
	is_new = is_first(LOAD(frame->tcp_flags)) && !(service->flags & SERVICE_UDP);
	if (likely(send_back(interface, service, data, end - data, cpu_number, slot, is_new)))
		return XDP_TX;
	/* A marked slot's number is no backend's. */
	return balance_unsent(ctx, service, slot, cpu_number);
}

/* The packet path's clock, for the controller: timeouts, marks and flow entries are told in it. */
SEC("syscall")
int xlb_clock(struct clock *clock)
{
	clock->jiffies = bpf_jiffies64();
	clock->age = clock_age();
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
