// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The packet path with an onlooker: `xlb capture` puts this in xlb.bpf.c's place while it runs
 * (docs/decisions/0013-capture-by-link-update.md). It is the same way, called from here, and told of to a ring buffer:
 * each frame as it came, its verdict, its reasons and its backend.
 *
 * It must not outlive the command that reads the ring. So it looks only while its lease lasts, which that command
 * renews; where the command was killed, packets go straight to the packet path until the next verb puts the program
 * back.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define ENTRY                         static __noinline
#define NOTE_REASON(cpu, reason)      ((cpu)->noted_reasons |= 1ULL << (reason))
#define NOTE_SERVICE(number, service) (own_cpu(number)->noted_service = (service)->id)
#define NOTE_BACKEND(number, backend) (own_cpu(number)->noted_counter = (backend)->counter)

#include "xlb.bpf.c"

/* Set before it is loaded: what nobody asks for costs no instruction. */
const volatile struct capture_filter filter = {};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 20); /* set before it is made */
} capture_ring SEC(".maps");

/* One word: the jiffies until which somebody reads the ring. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} capture_lease SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, INTERFACES_MAX);
	__type(key, __u32);
	__type(value, struct capture_counts);
} capture_counts SEC(".maps");

/* Where a record is put together: a frame's head before its verdict, all else after. */
struct record {
	struct capture_event event;
	__u8 head[CAPTURE_HEAD_BYTES];
	__u8 rest[CAPTURE_REST_BYTES];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct record);
} capture_record SEC(".maps");

static __always_inline bool lease_lasts(void)
{
	__u32 zero = 0;
	__u64 *until = bpf_map_lookup_elem(&capture_lease, &zero);

	return until && (__s64)(*(volatile __u64 *)until - bpf_jiffies64()) > 0;
}

/* A number above 0, or `most` where it is more: a power of two. Cut so that the verifier sees it. */
static __always_inline __u32 cut(__u32 number, __u32 most)
{
	__u32 less_one = (number < most ? number : most) - 1;

	OPAQUE(less_one);
	return (less_one & (most - 1)) + 1;
}

/* ---- by its addresses, before the packet path has it ---- */

#define WORD(octets, index) (((const volatile __be32 *)(octets))[index])

static __always_inline bool address_matches(const volatile struct capture_address *wanted, const __be32 *address,
					    __u32 words)
{
	__be32 differs = 0;

#pragma unroll
	for (__u32 i = 0; i < words; i++)
		differs |= (LOAD(address[i]) ^ WORD(wanted->address_be, i)) & WORD(wanted->mask_be, i);
	return !differs;
}

static __always_inline bool addresses_match(struct xdp_md *ctx)
{
	struct cursor cursor = {.at = (void *)(long)ctx->data, .end = (void *)(long)ctx->data_end};
	struct ethhdr *eth;
	__be16 protocol_be;
	__u8 tags = 0;

	if (!filter.family)
		return true;
	if (!take(&cursor, sizeof(*eth), &eth))
		return false;
	protocol_be = skip_vlan_tags(&cursor, eth->h_proto, &tags);
	if (filter.family == 2) {
		struct iphdr *ip;

		return protocol_be == bpf_htons(ETH_P_IP) && take(&cursor, sizeof(*ip), &ip) &&
		       address_matches(&filter.source, &ip->saddr, 1) &&
		       address_matches(&filter.destination, &ip->daddr, 1);
	} else {
		/* Source and destination begin after 8 octets (RFC 8200 section 3). */
		struct {
			__be32 first[2], source[4], destination[4];
		} * ip;

		return protocol_be == bpf_htons(ETH_P_IPV6) && take(&cursor, sizeof(*ip), &ip) &&
		       address_matches(&filter.source, ip->source, 4) &&
		       address_matches(&filter.destination, ip->destination, 4);
	}
}

/* ---- by what became of it, after ---- */

static __always_inline bool outcome_matches(const struct capture_event *event)
{
	bool dropped_before = event->service == CAPTURE_NONE && event->verdict == XDP_DROP;

	return filter.verdicts >> (event->verdict & 31) & 1 &&
	       (filter.reasons == ~0ULL || event->reasons & filter.reasons) &&
	       (filter.service == CAPTURE_NONE || filter.service == event->service || dropped_before);
}

/*
 * Copies what of the frame is behind its head. The packet path changes nothing there: what it pushes or takes off,
 * tags, lies before it, and moved it by as much as the frame is now longer. Answers how many octets follow the event.
 */
static __always_inline __u32 copy_rest(struct xdp_md *ctx, struct record *record, __u32 frame_bytes)
{
	__u32 wanted = filter.snap_bytes < frame_bytes ? filter.snap_bytes : frame_bytes;
	__u32 now_bytes = bpf_xdp_get_buff_len(ctx);
	__u32 rest;

	if (wanted <= CAPTURE_HEAD_BYTES)
		return wanted;
	rest = cut(wanted - CAPTURE_HEAD_BYTES, CAPTURE_REST_BYTES);
	if (bpf_xdp_load_bytes(ctx, CAPTURE_HEAD_BYTES + now_bytes - frame_bytes, record->rest, rest))
		return CAPTURE_HEAD_BYTES;
	return CAPTURE_HEAD_BYTES + rest;
}

static __always_inline void tell(struct xdp_md *ctx, struct record *record, struct capture_counts *counts)
{
	struct capture_event *event = &record->event;
	__u32 captured = copy_rest(ctx, record, event->frame_bytes);

	event->captured_bytes = captured;
	event->time_ns = bpf_ktime_get_ns();
	/* Nobody is woken: the reader looks often enough. */
	if (bpf_ringbuf_output(&capture_ring, record, sizeof(*event) + captured, BPF_RB_NO_WAKEUP))
		counts->lost++;
}

static __always_inline struct capture_counts *own_counts(void)
{
	__u32 slot = CONSTANT(OWN_SLOT);

	return bpf_map_lookup_elem(&capture_counts, &slot);
}

static __always_inline struct record *own_record(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&capture_record, &zero);
}

/*
 * Counts a packet, and keeps what has to be known of it before anything becomes of it. False: it is not looked at. Not
 * inlined, nor the next: what they need of the stack is free again for the packet path, whose calls take up the rest.
 */
static __noinline bool begin_record(struct xdp_md *ctx)
{
	struct capture_counts *counts = own_counts();
	struct record *record = own_record();
	struct cpu *cpu = own_cpu(bpf_get_smp_processor_id());
	__u32 frame_bytes;

	if (!counts || !record || !lease_lasts())
		return false;
	counts->packets++;
	if (!addresses_match(ctx))
		return false;
	frame_bytes = bpf_xdp_get_buff_len(ctx);
	if (!frame_bytes || bpf_xdp_load_bytes(ctx, 0, record->head, cut(frame_bytes, CAPTURE_HEAD_BYTES)))
		return false;
	record->event.frame_bytes = frame_bytes;
	record->event.slot = CONSTANT(OWN_SLOT);
	cpu->noted_reasons = 0;
	cpu->noted_service = CAPTURE_NONE;
	cpu->noted_counter = CAPTURE_NONE;
	return true;
}

/* Tells what became of it, if that is wanted. */
static __noinline int end_record(struct xdp_md *ctx, int verdict)
{
	struct capture_counts *counts = own_counts();
	struct record *record = own_record();
	struct cpu *cpu = own_cpu(bpf_get_smp_processor_id());

	if (!counts || !record)
		return verdict;
	record->event.verdict = verdict;
	record->event.service = cpu->noted_service;
	record->event.counter = cpu->noted_counter;
	record->event.reasons = cpu->noted_reasons | (verdict == XDP_TX ? 1ULL << TX_FORWARDED : 0);
	if (outcome_matches(&record->event))
		tell(ctx, record, counts);
	return verdict;
}

SEC("xdp")
int xlb_capture(struct xdp_md *ctx)
{
	if (!begin_record(ctx))
		return xlb(ctx);
	return end_record(ctx, xlb(ctx));
}
