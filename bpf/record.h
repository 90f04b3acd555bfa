/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How a new flow gets its place in a flow table (flow.h), and which entry gives way to it. */
#ifndef XLB_RECORD_H
#define XLB_RECORD_H

#include "flow.h"

enum readiness { FLOW_NEVER, FLOW_GIVES_WAY_LAST = 1 << 12, FLOW_GIVES_WAY = 2 << 12, FLOW_GIVES_WAY_NOW = 3 << 12 };

/*
 * How readily an entry gives way: free or expired, then half-open, then closing; an established one never. To the
 * middle two the idle time is added: among equals the oldest goes.
 */
static __always_inline __u32 readiness(__u64 value, __u64 now)
{
	__u32 state = flow_state(value);

	if (state == FLOW_FREE)
		return FLOW_GIVES_WAY_NOW;
	if (state == FLOW_CLAIMED)
		return FLOW_NEVER;
	if (flow_expired(value, now))
		return FLOW_GIVES_WAY_NOW;
	if (state == FLOW_HALF_OPEN || state == FLOW_ADOPTED || state == FLOW_UDP_ONCE)
		return FLOW_GIVES_WAY | flow_idle(value, now);
	if (state == FLOW_CLOSING || state == FLOW_CLOSED)
		return FLOW_GIVES_WAY_LAST | flow_idle(value, now);
	return FLOW_NEVER;
}

/* The place of a bucket that gives way most readily. */
struct victim {
	__u64 value;
	__u16 readiness; /* 0: none gives way */
	__u16 free;      /* free places in the bucket */
	__u32 place;
};

/* Compares a further place of the bucket with the victim so far. */
static __always_inline void weigh_victim(struct victim *victim, __u32 place, __u64 value, __u64 now)
{
	__u32 ready = readiness(value, now);

	victim->free += ready == FLOW_GIVES_WAY_NOW;
	if (ready > victim->readiness) {
		victim->value = value;
		victim->place = place;
		victim->readiness = ready;
	}
}

static __always_inline void no_victim(struct victim *victim)
{
	victim->readiness = victim->free = victim->place = 0;
	victim->value = 0;
}

/*
 * A function of its own, not inlined: the verifier then proves it once, where it would else follow every combination of
 * eight entries' states through the rest of the program. Inserts alone pay for the call.
 */
__noinline int flow_victim(__u32 bucket, __u32 now, struct victim *victim)
{
	struct flow_bucket *found = AT(flows, bucket);

	if (!victim)
		return 0;
	no_victim(victim);
	for (int i = 0; i < FLOWS_PER_BUCKET; i++)
		weigh_victim(victim, i, READ_WORD(found->flow[i].value), now);
	return 0;
}

__noinline int flow6_victim(__u32 bucket, __u32 now, struct victim *victim)
{
	struct flow6_bucket *found = AT(flows6, bucket);

	if (!victim)
		return 0;
	no_victim(victim);
	for (int i = 0; i < FLOWS6_PER_BUCKET; i++)
		weigh_victim(victim, i, READ_WORD(found->flow6[i].flow.value), now);
	return 0;
}

static __always_inline void find_victim(bool is_ipv6, __u32 bucket, __u32 now, struct victim *victim)
{
	if (is_ipv6)
		flow6_victim(bucket, now, victim);
	else
		flow_victim(bucket, now, victim);
}

/* A claimed entry gets its key. */
static __always_inline void write_key(bool is_ipv6, const struct flow_place *place, struct flow *flow)
{
	if (is_ipv6) {
		struct flow6 *flow6 = (void *)flow - __builtin_offsetof(struct flow6, flow);

		WRITE_WORD(flow6->source.high, place->source.high);
		WRITE_WORD(flow6->source.low, place->source.low);
	}
	WRITE_WORD(flow->key, place->key);
}

/* The entry at a place of a bucket. */
static __always_inline struct flow *flow_at(bool is_ipv6, __u32 bucket, __u32 at)
{
	return is_ipv6 ? &AT(flows6, bucket)->flow6[at % FLOWS6_PER_BUCKET].flow
		       : &AT(flows, bucket)->flow[at % FLOWS_PER_BUCKET];
}

static __always_inline bool insert_into(bool is_ipv6, struct cpu *cpu, const struct flow_place *place, __u64 value)
{
	const __u64 claimed = (__u64)FLOW_CLAIMED << FLOW_STATE_SHIFT;
	__u32 now = value >> FLOW_AGE_SHIFT & FLOW_AGE_MASK;
	__u32 bucket = place->index[0];
	struct victim victim = {}, other = {};
	struct flow *flow;
	__u64 victim_key;

	find_victim(is_ipv6, place->index[0], now, &victim);
	find_victim(is_ipv6, place->index[1], now, &other);
	if (other.readiness > victim.readiness || (other.readiness == victim.readiness && other.free > victim.free)) {
		victim = other;
		bucket = place->index[1];
	}
	if (!victim.readiness) {
		count(cpu, FLOW_REFUSED_FULL);
		return false;
	}
	flow = flow_at(is_ipv6, bucket, victim.place);
	if (__sync_val_compare_and_swap(&flow->value, victim.value, claimed) != victim.value) {
		count(cpu, FLOW_REFUSED_RACE);
		return false;
	}
	/* Counted before anyone can see it, and so before anyone can take it off again. */
	count_entry(place->key, value, counts_as(flow_state(value)));
	victim_key = READ_WORD(flow->key); /* of the value that was claimed: keys change in claimed entries only */
	write_key(is_ipv6, place, flow);
	/* A cmpxchg, not a store: it orders the key before the value on every machine. */
	__sync_val_compare_and_swap(&flow->value, claimed, value);
	if (flow_state(victim.value) != FLOW_FREE)
		count_entry(victim_key, victim.value, -counts_as(flow_state(victim.value)));
	count(cpu, FLOW_INSERTED);
	note_change(place, bucket);
	return true;
}

/*
 * Takes a place that gives way, in the emptier of the two buckets. False: refused, and counted. Not inlined: its
 * stack is free again where the scheduler is asked. The verifier follows each table by itself.
 */
static __noinline bool flow_insert(struct cpu *cpu, const struct flow_place *place, __u64 value)
{
	return place->is_ipv6 ? insert_into(true, cpu, place, value) : insert_into(false, cpu, place, value);
}

/* Gives a flow that has an entry another backend, in place. False: another CPU was first; counted. */
static __always_inline bool flow_replace(struct cpu *cpu, const struct flow_place *place, struct flow *flow,
					 __u64 before, __u64 value)
{
	count_entry(place->key, value, counts_as(flow_state(value)));
	if (__sync_val_compare_and_swap(&flow->value, before, value) != before) {
		count_entry(place->key, value, -counts_as(flow_state(value)));
		count(cpu, FLOW_REFUSED_RACE);
		return false;
	}
	count_entry(place->key, before, -counts_as(flow_state(before)));
	count(cpu, FLOW_INSERTED);
	note_change(place, place->found);
	return true;
}

#endif
