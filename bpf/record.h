/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How a new flow gets its place in a flow table (flow.h), and which entry gives way to it. */
#ifndef XLB_RECORD_H
#define XLB_RECORD_H

#include "lookup.h"

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
	note_change(place->table, bucket);
	return true;
}

/*
 * Takes a place that gives way, in the emptier of the two buckets. False: refused, and counted. Not inlined: its
 * stack is free again where the scheduler is asked. The verifier follows each table by itself.
 */
static __noinline bool flow_insert(struct cpu *cpu, const struct flow_place *place, __u64 value)
{
	return place->table == FLOWS6 ? insert_into(true, cpu, place, value) : insert_into(false, cpu, place, value);
}

/* ---- flows of an IPv6 prefix: in words, as calls are deep where a flow is recorded ---- */

enum prefix_victim { PREFIX_VICTIM_FREE_SHIFT = 34, PREFIX_VICTIM_READINESS_SHIFT = 38 };

/* The place of a bucket that gives way most readily, and how readily, in one word as client_victim's of persist.h. */
__noinline __u64 prefix_flow6_victim(__u32 index, __u64 now)
{
	__u64 best = 0, free = 0;

	for (__u64 i = 0; i < PREFIX_FLOWS6_PER_BUCKET; i++) {
		__u64 place = (__u64)index * PREFIX_FLOWS6_PER_BUCKET + i;
		__u64 ready = readiness(READ_WORD(prefix_flow6_at(place)->flow.value), now);

		free += ready == FLOW_GIVES_WAY_NOW;
		if (ready > best >> PREFIX_VICTIM_READINESS_SHIFT)
			best = ready << PREFIX_VICTIM_READINESS_SHIFT | place;
	}
	return best | free << PREFIX_VICTIM_FREE_SHIFT;
}

/* The place for a flow that has this hash; of no readiness: both buckets are full. */
static __always_inline __u64 prefix_flow6_room(__u64 hash, __u64 now)
{
	struct flow_place place;
	__u64 first, second;

	flow_hashed(&place, hash, 0);
	first = prefix_flow6_victim(place.index[0], now);
	second = prefix_flow6_victim(place.index[1], now);
	return first >> PREFIX_VICTIM_FREE_SHIFT >= second >> PREFIX_VICTIM_FREE_SHIFT ? first : second;
}

static __always_inline void write_address6(struct address6 *written, const struct address6 *address)
{
	WRITE_WORD(written->high, address->high);
	WRITE_WORD(written->low, address->low);
}

/* As flow_insert, of a flow to an address of an IPv6 prefix. `value` lacks its check bits. */
__noinline int insert_prefix_flow6(const struct packet *packet, __u64 key, __u64 value)
{
	const __u64 claimed = (__u64)FLOW_CLAIMED << FLOW_STATE_SHIFT;
	struct prefix_flow6 *entry;
	__u64 place, victim, victim_key;
	struct cpu *cpu;

	if (!packet)
		return false;
	cpu = own_cpu(packet->cpu_number);
	place = prefix_flow6_hash(&packet->source6, &packet->vip6, key, packet->port_be);
	value |= place << FLOW_CHECK_SHIFT;
	place = prefix_flow6_room(place, value >> FLOW_AGE_SHIFT & FLOW_AGE_MASK);
	if (!(place >> PREFIX_VICTIM_READINESS_SHIFT)) {
		count(cpu, FLOW_REFUSED_FULL);
		return false;
	}
	place &= (1ULL << PREFIX_VICTIM_FREE_SHIFT) - 1;
	entry = prefix_flow6_at(place);
	victim = READ_WORD(entry->flow.value);
	/* Still to be had? */
	if (!readiness(victim, value >> FLOW_AGE_SHIFT) ||
	    __sync_val_compare_and_swap(&entry->flow.value, victim, claimed) != victim) {
		count(cpu, FLOW_REFUSED_RACE);
		return false;
	}
	/* As in insert_into. */
	count_entry(key, value, counts_as(flow_state(value)));
	victim_key = READ_WORD(entry->flow.key);
	write_address6(&entry->source, &packet->source6);
	write_address6(&entry->destination, &packet->vip6);
	WRITE_WORD(entry->flow.key, key);
	__sync_val_compare_and_swap(&entry->flow.value, claimed, value);
	if (flow_state(victim) != FLOW_FREE)
		count_entry(victim_key, victim, -counts_as(flow_state(victim)));
	count(cpu, FLOW_INSERTED);
	note_change(PREFIX_FLOWS6, place / PREFIX_FLOWS6_PER_BUCKET);
	return true;
}

/* Records a flow, in its table. False: refused, and counted. `prefix6` as flow_locate has it. */
static __always_inline bool flow_record(struct cpu *cpu, const struct packet *packet, const struct flow_place *place,
					__u64 value, bool prefix6)
{
	return prefix6 ? insert_prefix_flow6(packet, place->key, value) : flow_insert(cpu, place, value);
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
	note_change(place->table, place->found);
	return true;
}

#endif
