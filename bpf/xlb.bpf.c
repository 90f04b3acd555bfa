// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The packet's itinerary: parse, find the service, choose the backend, forward. xlb.h describes the tables on the way.
 *
 * What is not for a VIP costs one probe and goes to the stack untouched. What is for a service never reaches the stack:
 * the director would answer it with a reset, or route it.
 */
#include <linux/bpf.h>
#include "config.h"
#include "directory.h"
#include "forward.h"
#include "maps.h"
#include "parse.h"
#include "schedule.h"
#include "verdict.h"

/*
 * What is for no service of its VIP's bucket: not for a VIP at all, or faulty, or for a VIP with many services. Answers
 * a verdict, unless it finds the service after all.
 */
static __always_inline int look_further(__u64 live, const struct target_bucket *bucket, const struct packet *packet,
					const struct target **target)
{
	const struct target *vip = find_vip(bucket, packet->vip_be);

	if (!vip)
		return pass(packet->cpu, PASS_NOT_VIP);
	if (packet->fault == FAULT_NOT_BALANCED)
		return pass(packet->cpu, PASS_NOT_BALANCED);
	if (packet->fault == FAULT_MALFORMED)
		return drop(packet->cpu, DROP_MALFORMED);
	if (packet->fault == FAULT_TRUNCATED)
		return drop(packet->cpu, DROP_TRUNCATED);
	if (packet->fault == FAULT_FRAGMENT)
		return drop(packet->cpu, DROP_FRAGMENT);
	if (vip->flags & TARGET_MORE)
		*target = find_further_target(live, service_key(packet));
	return *target ? XDP_TX : pass(packet->cpu, PASS_NO_SERVICE);
}

SEC("xdp")
int xlb(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct packet packet = {.eth = data, .frame_bytes = end - data, .cpu = own_cpu()};
	const struct interface *interface = own_interface();
	const struct target_bucket *bucket;
	const struct service *service;
	const struct target *target;
	__u64 live = live_directory();
	bool is_new = false;
	__u32 chosen;
	int verdict;

	if (!packet.cpu || data + sizeof(struct ethhdr) > end)
		return XDP_PASS;
	if (!is_for_interface(interface, data))
		return pass(packet.cpu, PASS_OTHER_MAC);
	if (unlikely(!parse_plain(data, end, &packet)) && !parse_any(data, end, &packet))
		return pass(packet.cpu, PASS_NOT_IPV4);

	bucket = find_vip_bucket(live, packet.vip_be);
	if (!bucket)
		return pass(packet.cpu, PASS_NOT_VIP);
	/* A faulty packet's port and protocol are no service's: it has none. */
	target = likely(!packet.fault) ? find_target(bucket, service_key(&packet)) : NULL;
	if (unlikely(!target)) {
		verdict = look_further(live, bucket, &packet, &target);
		if (!target)
			return verdict;
	}
	packet.ring_seed = target->ring_seed;
	service = AT(services, target->service);
	if (!service)
		return drop(packet.cpu, DROP_NO_BACKEND);
	chosen = choose_backend(service, &packet, &is_new);
	return forward(interface, service, &packet, chosen, is_new);
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
