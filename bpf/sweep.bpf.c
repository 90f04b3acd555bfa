// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Frees expired entries of services whose backends' counts decide something, so that those are right within a second of
 * an entry's end. A BPF timer does it, slice by slice: no daemon is needed. It lives as long as its map is pinned.
 */
#include <linux/bpf.h>
#include "directory.h"
#include "flow.h"

#define CLOCK_MONOTONIC 1

/* At this pace all tables are swept in less than a second, with what the timer is late. */
enum sweep_pace {
	SWEEP_NS = 750 * 1000000,
	SWEEP_SLICES_MIN = 16,         /* in as many slices at least, */
	SWEEP_BUCKETS_MAX = 8192,      /* none of which has more buckets than this: so it takes less than 0.2 ms */
	SWEEP_IDLE_NS = 500 * 1000000, /* how often it looks whether there is anything to do */
};

struct sweep {
	struct bpf_timer timer;
	__u32 next; /* slice */
	__u32 reserved;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sweep);
} sweep SEC(".maps");

struct sweep_turn {
	__u64 now;
	__u64 first;
};

static __always_inline void sweep_flow(struct flow *flow, __u64 now)
{
	__u64 value = READ_WORD(flow->value), key;

	if (flow_state(value) <= FLOW_CLAIMED || !flow_expired(value, now))
		return;
	key = READ_WORD(flow->key);
	if (!(AT(backend_runs, key >> FLOW_SERVICE_SHIFT)->flags & RUN_SWEPT))
		return;
	/* Where the value is still what was read, so was the key: they change together. */
	if (__sync_val_compare_and_swap(&flow->value, value, 0) == value)
		count_entry(key, value, -counts_as(flow_state(value)));
}

static long sweep_bucket(__u32 index, struct sweep_turn *turn)
{
	struct flow_bucket *bucket = AT(flows, turn->first + index);

	for (int i = 0; i < FLOWS_PER_BUCKET; i++)
		sweep_flow(&bucket->flow[i], turn->now);
	return 0;
}

static long sweep_bucket6(__u32 index, struct sweep_turn *turn)
{
	struct flow6_bucket *bucket = AT(flows6, turn->first + index);

	for (int i = 0; i < FLOWS6_PER_BUCKET; i++)
		sweep_flow(&bucket->flow6[i].flow, turn->now);
	return 0;
}

static long sweep_prefix_bucket6(__u32 index, struct sweep_turn *turn)
{
	struct prefix_flow6_bucket *bucket = AT(prefix_flows6, turn->first + index);

	for (int i = 0; i < PREFIX_FLOWS6_PER_BUCKET; i++)
		sweep_flow(&bucket->prefix_flow6[i].flow, turn->now);
	return 0;
}

/* How many slices the tables are swept in: a power of two, as the tables' sizes are. */
static __always_inline __u64 slices(void)
{
	__u64 buckets = CONSTANT(MASK_flows) + CONSTANT(MASK_flows6) + CONSTANT(MASK_prefix_flows6) + 3;
	__u64 slices = SWEEP_SLICES_MIN;

#pragma unroll
	for (int i = 0; i < 10; i++)
		if (buckets / slices > SWEEP_BUCKETS_MAX)
			slices *= 2;
	return slices;
}

/* That part of a table. One that has fewer buckets than there are slices is swept several times. */
static __always_inline __u64 slice_of(__u64 buckets)
{
	return buckets / slices() ? buckets / slices() : 1;
}

static __always_inline void sweep_one(__u64 slice)
{
	__u64 buckets = slice_of(CONSTANT(MASK_flows) + 1), buckets6 = slice_of(CONSTANT(MASK_flows6) + 1);
	__u64 prefix_buckets6 = slice_of(CONSTANT(MASK_prefix_flows6) + 1);
	struct sweep_turn turn = {.now = clock_age()};

	turn.first = slice * buckets; /* AT cuts it to the table */
	bpf_loop(buckets, sweep_bucket, &turn, 0);
	turn.first = slice * buckets6;
	bpf_loop(buckets6, sweep_bucket6, &turn, 0);
	turn.first = slice * prefix_buckets6;
	bpf_loop(prefix_buckets6, sweep_prefix_bucket6, &turn, 0);
}

static int sweep_timer(void *map __attribute__((unused)), __u32 *key __attribute__((unused)), struct sweep *sweep)
{
	__u64 wait = SWEEP_IDLE_NS;

	if (root_now()->swept) {
		sweep_one(sweep->next++);
		wait = SWEEP_NS / slices();
	}
	bpf_timer_start(&sweep->timer, wait, 0);
	return 0;
}

/* Starts the timer, or has it go on with this program in place of the one before. */
SEC("syscall")
int xlb_sweep_start(void *context __attribute__((unused)))
{
	struct sweep *found;
	__u32 key = 0;

	found = bpf_map_lookup_elem(&sweep, &key);
	if (!found)
		return 1;
	bpf_timer_init(&found->timer, &sweep, CLOCK_MONOTONIC); /* EBUSY: it was before */
	if (bpf_timer_set_callback(&found->timer, sweep_timer))
		return 1;
	return bpf_timer_start(&found->timer, 0, 0) ? 1 : 0;
}

static long sweep_next(__u32 index, void *context __attribute__((unused)))
{
	sweep_one(index);
	return 0;
}

/* Sweeps all tables at once. For tests and benches: the timer does it by itself. */
SEC("syscall")
int xlb_sweep(void *context __attribute__((unused)))
{
	bpf_loop(slices(), sweep_next, NULL, 0);
	return 0;
}

char _license[] SEC("license") = "Dual BSD/GPL";
