// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * What `xlb bench` measures with. BPF_PROG_TEST_RUN does not restore the frame between repeats, so that a program which
 * rewrites it would be measured on its own output: bench_wrapper writes the frame anew each time, picks the flow, and
 * tail-calls the program under test. The wrapper's own cost is that of the same wrapper around bench_tx.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "hash.h"
#include "parse.h"

/* The smallest Ethernet frame, without FCS; one of an IPv6 and a TCP header; and an ICMP error that quotes 8 octets. */
enum frame_limit { FRAME_BYTES = 60, FRAME6_BYTES = 74, ERROR_BYTES = 70 };

/* What all frames of a run share; src/bench/frames.ts sets these before the program is loaded. */
const volatile __u8 frame[80] = {};
const volatile __u32 flow_mask = 0; /* flows - 1, flows being a power of two; ~0: each flow is new */
const volatile __u32 flow_step =
    1; /* odd: flows come in an order that visits each once and that caches cannot foresee */
const volatile __u32 services = 1;
const volatile __u32 first_vip = 0; /* host order; a service's number is added */

const volatile __u64 tags = 0; /* two VLAN tags, as they stand behind the MACs; 0: none */

/* What the floors write into frames. */
const volatile __u64 floor_destination_mac = 0;
const volatile __u64 floor_source_mac = 0;

__u32 next_flow = 0;

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} under_test SEC(".maps");

struct floor_key {
	__u64 source;
	__u64 service;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1);
	__type(key, struct floor_key);
	__type(value, __u64);
} floor_flows SEC(".maps");

/* Laid out as flows is, and mapped as that is. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct flow_bucket);
} floor_buckets SEC(".maps");

const volatile __u32 floor_bucket_mask = 0; /* buckets - 1, buckets being a power of two */

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} sunk SEC(".maps");

/* Any odd number: nobody aims at a floor's buckets. */
#define FLOOR_SEED 0x9e3779b97f4a7c15ULL

#define WORD(type, base, offset) (*(volatile type *)((void *)(base) + (offset)))
#define COPY(type, to, offset)                                                                                         \
	(WORD(type, to, offset) = *(const volatile type *)((const volatile void *)frame + (offset)))

/*
 * Writes the next flow's frame. Each store covers whole fields, so that no load of a field spans two stores: the
 * processor could not forward those from its store buffer, a cost that no frame from a network card has. Checksums are
 * not made to fit the flow; XDP programs leave them to the receiver.
 */
static __always_inline bool write_frame(struct xdp_md *ctx)
{
	void *at = (void *)(long)ctx->data;
	__u32 flow, service = 0;

	if (at + FRAME_BYTES + sizeof(tags) > (void *)(long)ctx->data_end)
		if (tags || at + FRAME_BYTES > (void *)(long)ctx->data_end)
			return false;
	flow = next_flow++ * flow_step & flow_mask;
	if (services > 1)
		service = (__u64)(flow * 0x9e3779b1U) * services >> 32;

	COPY(__u64, at, 0); /* destination, start of source */
	if (tags) {
		COPY(__u32, at, 8);
		WORD(__u64, at, 12) = tags;
		at += sizeof(tags);
		COPY(__u32, at, 12);
	} else {
		COPY(__u64, at, 8); /* rest of the source, EtherType, version, header length, TOS */
	}
	COPY(__u16, at, 16); /* total length */
	COPY(__u64, at, 18); /* identification, fragment, TTL, protocol, checksum */
	WORD(__u64, at, 26) = bpf_htonl(0x0a000000 | (flow & 0xffffff)) | (__u64)bpf_htonl(first_vip + service) << 32;
	WORD(__u32, at, 34) = bpf_htons(0x8000 | flow >> 24 << 7 | (flow & 0x7f)) | (__u32)WORD(const __u16, frame, 36)
											<< 16;
	COPY(__u32, at, 38);
	COPY(__u64, at, 42); /* TCP: acknowledgement, offset, flags, window */
	COPY(__u64, at, 50);
	COPY(__u16, at, 58);
	return true;
}

/* As write_frame, of IPv6: flow and service are in the last four octets of source and destination, and in the port. */
static __always_inline bool write_frame6(struct xdp_md *ctx)
{
	void *at = (void *)(long)ctx->data;
	__u32 flow, service = 0;

	if (at + FRAME6_BYTES > (void *)(long)ctx->data_end)
		return false;
	flow = next_flow++ * flow_step & flow_mask;
	if (services > 1)
		service = (__u64)(flow * 0x9e3779b1U) * services >> 32;

	COPY(__u64, at, 0);
	COPY(__u32, at, 8);
	COPY(__u16, at, 12); /* EtherType */
	COPY(__u64, at, 14); /* version to hop limit */
	COPY(__u64, at, 22); /* source */
	WORD(__u64, at, 30) = (__u64)bpf_htonl(flow & 0xffffff) << 32;
	COPY(__u64, at, 38); /* destination */
	WORD(__u64, at, 46) = (__u64)bpf_htonl(first_vip + service) << 32;
	WORD(__u32, at, 54) = bpf_htons(0x8000 | flow >> 24 << 7 | (flow & 0x7f)) | (__u32)WORD(const __u16, frame, 56)
											<< 16;
	COPY(__u64, at, 58);
	COPY(__u64, at, 66); /* offset, flags, window, checksum, urgent pointer */
	return true;
}

/* As write_frame, an ICMP error about the flow: a router quotes what the service has sent to the client. */
static __always_inline bool write_error(struct xdp_md *ctx)
{
	void *at = (void *)(long)ctx->data;
	__u32 flow, vip_be;

	if (at + ERROR_BYTES > (void *)(long)ctx->data_end)
		return false;
	flow = next_flow++ * flow_step & flow_mask;
	vip_be = bpf_htonl(first_vip + (services > 1 ? (__u64)(flow * 0x9e3779b1U) * services >> 32 : 0));

	COPY(__u64, at, 0);
	COPY(__u64, at, 8);
	COPY(__u16, at, 16);
	COPY(__u64, at, 18);
	COPY(__u32, at, 26); /* the router's address */
	WORD(__u32, at, 30) = vip_be;
	COPY(__u64, at, 34); /* ICMP: type, code, checksum, MTU of the next hop */
	COPY(__u32, at, 42); /* quoted: version to total length */
	COPY(__u64, at, 46);
	WORD(__u32, at, 54) = vip_be;
	WORD(__u32, at, 58) = bpf_htonl(0x0a000000 | (flow & 0xffffff));
	COPY(__u16, at, 62);
	WORD(__u16, at, 64) = bpf_htons(0x8000 | flow >> 24 << 7 | (flow & 0x7f));
	COPY(__u32, at, 66);
	return true;
}

/* ---- around the program under test ---- */

SEC("xdp")
int bench_wrapper(struct xdp_md *ctx)
{
	if (!write_frame(ctx))
		return XDP_ABORTED;
	/* A constant index becomes a direct jump (0.6 ns); a variable one costs 8.5. */
	bpf_tail_call_static(ctx, &under_test, 0);
	return XDP_ABORTED;
}

SEC("xdp")
int bench_wrapper6(struct xdp_md *ctx)
{
	if (!write_frame6(ctx))
		return XDP_ABORTED;
	bpf_tail_call_static(ctx, &under_test, 0);
	return XDP_ABORTED;
}

SEC("xdp")
int bench_wrapper_error(struct xdp_md *ctx)
{
	if (!write_error(ctx))
		return XDP_ABORTED;
	bpf_tail_call_static(ctx, &under_test, 0);
	return XDP_ABORTED;
}

SEC("xdp")
int bench_tx(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_TX;
}

/* ---- floors: the least that a balancer can do. Bounds are checked, as they must be; nothing else of a packet is ----
 */

static __always_inline void store_mac(__u8 *octets, __u64 mac)
{
	*(__u32 *)octets = mac;
	*(__u16 *)(octets + 4) = mac >> 32;
}

static __always_inline int send_to(struct ethhdr *eth, __u64 mac)
{
	store_mac(eth->h_dest, mac);
	store_mac(eth->h_source, floor_source_mac);
	return XDP_TX;
}

SEC("xdp")
int bench_floor(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u64 key;

	if (!parse_plain(data, end, &key))
		return XDP_PASS;
	return send_to(data, floor_destination_mac);
}

SEC("xdp")
int bench_floor_lru(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	const struct plain_frame *frame = data;
	struct floor_key key = {};
	__u64 *found;

	if (!parse_plain(data, end, &key.service))
		return XDP_PASS;
	key.source = plain_source(frame);
	found = bpf_map_lookup_elem(&floor_flows, &key);
	if (!found) {
		__u64 mac = floor_destination_mac;

		bpf_map_update_elem(&floor_flows, &key, &mac, BPF_ANY);
		return send_to(data, mac);
	}
	return send_to(data, *found);
}

/*
 * The least that a new flow costs where its entry may stand in either of two buckets: both are read, and an entry is
 * taken. No scheduler is asked, nothing is counted, and who gives way is no question.
 */
SEC("xdp")
int bench_floor_two_buckets(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct flow_bucket *first, *second;
	__u32 index, other;
	struct flow *flow;
	__u64 key, source;
	__u64 value;

	if (!parse_plain(data, end, &key))
		return XDP_PASS;
	source = plain_source(data);
	key = hash_mix(source, FLOOR_SEED);
	index = key >> 32 & floor_bucket_mask;
	other = key & floor_bucket_mask;
	first = bpf_map_lookup_elem(&floor_buckets, &index);
	second = bpf_map_lookup_elem(&floor_buckets, &other);
	if (!first || !second)
		return XDP_ABORTED;
	flow = &first->flow[key >> 20 & (FLOWS_PER_BUCKET - 1)];
	value = *(volatile __u64 *)&flow->value;
	if (*(volatile __u64 *)&second->flow[0].key == source || *(volatile __u64 *)&flow->key == source ||
	    __sync_val_compare_and_swap(&flow->value, value, value + 1) != value)
		return XDP_ABORTED;
	*(volatile __u64 *)&flow->key = source;
	return send_to(data, floor_destination_mac);
}

/* ---- frames that really travel, over a veth pair ---- */

/* For BPF_F_TEST_XDP_LIVE_FRAMES: XDP_TX there leaves by the interface named as the ingress. */
SEC("xdp")
int bench_generate(struct xdp_md *ctx)
{
	return write_frame(ctx) ? XDP_TX : XDP_ABORTED;
}

/* The least that a balancer on a veth can do. */
SEC("xdp")
int bench_swap(struct xdp_md *ctx)
{
	struct ethhdr *eth = (void *)(long)ctx->data;

	if ((void *)(eth + 1) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	return send_to(eth, floor_destination_mac);
}

SEC("xdp")
int bench_sink(struct xdp_md *ctx)
{
	__u32 zero = 0;
	__u64 *count = bpf_map_lookup_elem(&sunk, &zero);

	(void)ctx;
	if (count)
		(*count)++;
	return XDP_DROP;
}

char _license[] SEC("license") = "Dual BSD/GPL";
