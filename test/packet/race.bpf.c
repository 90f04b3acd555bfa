// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The packet path under a driver that picks a flow at random, writes its frame, and looks where the frame was sent: each flow
 * has two backends that it may go to, and no other flow has either of them. race.ts compiles this against a copy of bpf/ in
 * which xlb() is renamed, and in some copies the reads and writes of the flow table take their time. RACE_FLOWS is the number
 * of flows that a CPU has; with RACE_APART 1 each has its own; with RACE_ESTABLISH 0 none is ever established; with RACE_ANY 1 any
 * backend may have any flow. RACE_IP_HEADER is the frames' family: iphdr, ipv6hdr.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <bpf/bpf_helpers.h>

/* Nearly always nothing; now and then some microseconds, so that the other CPU gets between two accesses. */
__noinline int race_pause(void)
{
	__u32 random = bpf_get_prandom_u32();
	__u32 turns = random & 15 ? 0 : random >> 20;

	for (__u32 i = 0; i < 4096; i++) {
		if (i >= turns)
			break;
		asm volatile("" : "+r"(i));
	}
	return 0;
}

#include "xlb.bpf.c"

enum race_limit { RACE_FLOWS_MAX = 64 };

struct race_flow {
	__u8 source_be[16]; /* IPv4 in the first four */
	__u8 destination_be[16];
	__be16 port_be;
	__u16 reserved[3];
	__u64 mac[2];
};

struct race_result {
	__u64 packets;
	__u64 wrong; /* sent to a backend of another flow */
	__u64 other; /* sent nowhere */
	__u64 wrong_flow;
	__u64 wrong_mac;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, RACE_FLOWS_MAX);
	__type(key, __u32);
	__type(value, struct race_flow);
} race_flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct race_result);
} race_results SEC(".maps");

SEC("xdp")
int xlb(struct xdp_md *ctx)
{
	return xlb_under_test(ctx);
}

struct race_frame {
	struct ethhdr eth;
	struct RACE_IP_HEADER ip;
	struct tcphdr tcp;
} __attribute__((packed));

static __always_inline __u64 race_load_mac(const __u8 *octets)
{
	return *(const __u32 *)octets | (__u64)*(const __u16 *)(octets + 4) << 32;
}

static __always_inline void race_store_mac(__u8 *octets, __u64 mac)
{
	*(__u32 *)octets = mac;
	*(__u16 *)(octets + 4) = mac >> 32;
}

static __always_inline __u8 random_flags(__u32 random)
{
	random &= 7;
	return random < 3 ? TCP_SYN : random < 6 ? TCP_RST : RACE_ESTABLISH ? TCP_ACK : TCP_SYN;
}

/* Makes the frame one of a flow. Not inlined, nor the next: what they need of the stack is free again for xlb(). */
static __noinline bool write_flow(struct xdp_md *ctx, __u32 index, __u32 random)
{
	struct race_frame *frame = (void *)(long)ctx->data;
	struct race_flow *flow = bpf_map_lookup_elem(&race_flows, &index);

	if (!flow || (void *)(frame + 1) > (void *)(long)ctx->data_end)
		return false;
	race_store_mac(frame->eth.h_dest, own_interface(root_now())->mac_high >> 16);
	__builtin_memcpy(&frame->ip.saddr, flow->source_be, sizeof(frame->ip.saddr));
	__builtin_memcpy(&frame->ip.daddr, flow->destination_be, sizeof(frame->ip.daddr));
	frame->tcp.source = flow->port_be;
	((__u8 *)&frame->tcp)[13] = random_flags(random);
	return true;
}

/* Notes where it was sent. */
static __noinline int judge(struct xdp_md *ctx, __u32 index, int verdict)
{
	struct race_frame *frame = (void *)(long)ctx->data;
	struct race_flow *flow = bpf_map_lookup_elem(&race_flows, &index);
	__u32 zero = 0;
	struct race_result *result = bpf_map_lookup_elem(&race_results, &zero);
	__u64 mac;

	if (!flow || !result || (void *)(frame + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	result->packets++;
	mac = race_load_mac(frame->eth.h_dest);
	if (verdict != XDP_TX)
		result->other++;
	else if (!RACE_ANY && mac != flow->mac[0] && mac != flow->mac[1]) {
		result->wrong++;
		result->wrong_flow = index;
		result->wrong_mac = mac;
	}
	return verdict;
}

SEC("xdp")
int race(struct xdp_md *ctx)
{
	__u32 random = bpf_get_prandom_u32();
	__u32 index = (random >> 8) % RACE_FLOWS + RACE_APART * bpf_get_smp_processor_id() * RACE_FLOWS;

	if (!write_flow(ctx, index, random))
		return XDP_ABORTED;
	return judge(ctx, index, xlb_under_test(ctx));
}
