/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which backend gets a new flow of a tracked service: the next in turn (rr, wrr), or the one that has least to do (lc,
 * wlc, sed, nq). What is compared is ipvsadm(8)'s, as net/netfilter/ipvs computes it:
 *
 * - lc: 256 for each active connection and 1 for each inactive one, whatever the weight;
 * - wlc: the same, over the weight;
 * - sed: active connections and one more, over the weight;
 * - nq: the first backend without an active connection; if there is none, as sed.
 *
 * On a tie the backend with the lowest index gets it. One of weight 0 gets none, nor one that is full (--max-conns).
 */
#ifndef XLB_CHOOSE_H
#define XLB_CHOOSE_H

#include "connections.h"
#include "slots.h"

/*
 * Has a backend as many connections as it may? Full until it falls below `reopens`, as IPVS_DEST_F_OVERLOAD is
 * (ip_vs_conn.c, ip_vs_bind_dest and ip_vs_unbind_dest).
 */
static __always_inline bool is_full(__u64 record, struct connections *own)
{
	const struct connection_limit *limit = AT(connection_limits, record);
	__u64 counts = LOAD(own->counts);
	__s64 total = active_of(counts) + inactive_of(counts);

	if (!limit->upper)
		return false;
	if (own->full && total < limit->reopens)
		own->full = 0;
	else if (!own->full && total >= limit->upper)
		own->full = 1;
	return own->full;
}

/* Notes that a backend has just got a flow: it may be full from now on, even if some have gone when it is next asked.
 */
static __always_inline void note_flow(const struct service *service, __u32 index)
{
	__u64 record = (__u64)service->backend_base + index;
	const struct backend *backend = AT(backends, record);

	is_full(record, AT(connections, backend->counter));
}

/* ---- lc, wlc, sed, nq ---- */

/* No larger: choose_backend has left little of the stack. */
struct search {
	__u64 load; /* of the best backend so far: load / weight */
	__u32 weight;
	__u32 found; /* its index, or SLOT_NONE, or SLOT_FULL */
	__u32 base;  /* first record */
	__u32 choice;
	__u32 limited; /* SERVICE_LIMITED, or 0 */
	__u32 count;   /* records; not where they themselves are gone through */
};

static __always_inline __u64 load_of(__u32 choice, __u64 counts)
{
	__s64 active = active_of(counts), load;

	load = choice >= CHOICE_SED ? active + 1 : (active << 8) + inactive_of(counts);
	return load < 0 ? 0 : load;
}

/* Weighs one backend against the best so far. 1 ends the search. */
static __always_inline long weigh_backend(__u32 index, struct search *search)
{
	__u32 choice = search->choice, record = search->base + index, weight;
	const struct backend *backend = AT(backends, record);
	struct connections *own = AT(connections, backend->counter);
	__u64 load, counts;
	bool idle;

	weight = backend->weight;
	if (!weight)
		return 0;
	if (search->limited && is_full(record, own)) {
		if (search->found == SLOT_NONE)
			search->found = SLOT_FULL;
		return 0;
	}
	counts = LOAD(own->counts);
	load = load_of(choice, counts);
	if (choice == CHOICE_LC)
		weight = 1;
	idle = choice == CHOICE_NQ && active_of(counts) <= 0;
	/* load / weight is less than the least so far. */
	if (!idle && search->load * weight <= load * search->weight)
		return 0;
	search->load = load;
	search->weight = weight;
	search->found = index;
	return idle;
}

static long weigh(__u32 index, struct search *search)
{
	return weigh_backend(index, search);
}

/*
 * The backend with least to do, SLOT_NONE where none has a weight, SLOT_FULL where all that have are full. Every
 * backend is looked at, as IPVS does it; unless one gets it anyway: `kept`, if that is not SLOT_NONE. Not inlined: the
 * verifier proves it once.
 */
__noinline __u32 least_loaded(__u32 base, __u32 count, __u32 choice, __u32 limited, __u32 kept)
{
	/* 1 / 0: more than any. */
	struct search search = {.load = 1, .found = SLOT_NONE, .base = base, .choice = choice, .limited = limited};

	if (kept != SLOT_NONE)
		return kept;
	bpf_loop(count, weigh, &search, 0);
	return search.found;
}

/* ---- rr and wrr: the schedule holds the backends in the order in which they take turns ---- */

static __always_inline __u32 next_turn(__u32 id, __u32 line, __u32 size)
{
	return line_slot(line, __sync_fetch_and_add(AT(cursors, id), 1) % size) & SLOT_BACKEND_MASK;
}

static __always_inline __u32 next_in_schedule(const struct service *service)
{
	if (!service->schedule_size)
		return SLOT_NONE;
	return next_turn(service->id, service->schedule_line, service->schedule_size);
}

/* A full backend's turns pass. After so many of them the backends are looked at in a row, so that there is an end. */
enum turn_limit { TURNS_MAX = 16 };

struct turns {
	__u32 base;
	__u32 line;
	__u32 size;
	__u16 id;
	__u16 count;
	__u32 index; /* whose turn it was last */
	__u32 found;
};

/* 1 ends the search. */
static long take_turn(__u32 turn, struct turns *turns)
{
	const struct backend *backend;

	turns->index =
	    turn < TURNS_MAX ? next_turn(turns->id, turns->line, turns->size) : (turns->index + 1) % turns->count;
	backend = AT(backends, turns->base + turns->index);
	if (!backend->weight)
		return 0;
	if (is_full(turns->base + turns->index, AT(connections, backend->counter))) {
		turns->found = SLOT_FULL;
		return 0;
	}
	turns->found = turns->index;
	return 1;
}

/* As next_in_schedule, without those that are full. SLOT_FULL: all are. Not inlined: the verifier proves it once. */
__noinline __u32 next_not_full(const struct service *service)
{
	struct turns turns = {.found = SLOT_NONE};

	if (!service || !service->schedule_size)
		return SLOT_NONE;
	turns.base = service->backend_base;
	turns.count = service->backend_count;
	turns.id = service->id;
	turns.line = service->schedule_line;
	turns.size = service->schedule_size;
	bpf_loop(TURNS_MAX + turns.count, take_turn, &turns, 0);
	return turns.found;
}

#endif
