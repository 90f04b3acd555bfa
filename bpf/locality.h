/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * lblc and lblcr: flows to one address of a prefix go to one backend, which so has what that address is asked for in
 * its cache, until that backend is overloaded (ipvsadm(8)). As net/netfilter/ipvs/ip_vs_lblc.c and ip_vs_lblcr.c do it:
 *
 * - overloaded: more active connections than its weight, while some backend has less than half its weight of them;
 * - lblc: a destination's first flow goes to the least loaded backend (as wlc has it), and the next ones to the same.
 * If that takes none or is overloaded, the least loaded of all gets the flow, and is the destination's from then on;
 * - lblcr: a destination has a set of backends, and the least loaded of the set gets the flow. If none of them takes
 * it, or that one is overloaded, the least loaded of all gets it, and is added to the set. Where a set of several was
 * not changed for `destination_timeout`, the most loaded one is dropped from it.
 *
 * Unlike there, one that is full (--max-conns) is passed over everywhere; a set has DESTINATION_BACKENDS at most, and
 * loses its most loaded one to a ninth; and one that takes no flow counts as the most loaded.
 */
#ifndef XLB_LOCALITY_H
#define XLB_LOCALITY_H

#include "choose.h"
#include "destination.h"

/* Weighs a backend of the note against the best so far. */
static long weigh_noted(__u32 at, struct search *search)
{
	__u32 index = noted_backend_at(own_destination(), at);

	return index < search->count ? weigh_backend(index, search) : 0;
}

/* Keeps the one of the note's backends with least to do, if any of them takes a flow. */
__noinline int keep_least_loaded(const struct service *service)
{
	struct destination_search *own = own_destination();
	struct search search = {.load = 1, .found = SLOT_NONE, .choice = CHOICE_WLC};

	if (!service)
		return 0;
	search.base = service->backend_base;
	search.count = service->backend_count;
	search.limited = service->flags & SERVICE_LIMITED;
	bpf_loop(own->noted, weigh_noted, &search, 0);
	if (search.found < SLOT_NONE)
		own->kept = search.found;
	return 0;
}

/* One that takes no flow is the most loaded, and of several such the one that was added first. */
static long weigh_most(__u32 at, struct search *search)
{
	__u32 index = noted_backend_at(own_destination(), at), weight = 0;
	const struct backend *backend = AT(backends, search->base + index);
	__u64 load;

	if (index < search->count)
		weight = backend->weight;
	load = load_of(CHOICE_WLC, LOAD(AT(connections, backend->counter)->counts));
	if (weight && search->found != SLOT_NONE && load * search->weight <= search->load * weight)
		return 0;
	search->load = load;
	search->weight = weight;
	search->found = at;
	return 0;
}

/* Was a set of several not changed for long? Then it loses one. */
static __always_inline bool is_to_shrink(const struct destination_search *search, __u64 now)
{
	return search->noted > 1 && destination_unchanged(search->value, now) > settings_now()->destination_timeout;
}

/* Finds the most loaded of the note's backends, where one is to go, or may be. */
__noinline int find_most_loaded(const struct service *service)
{
	struct destination_search *own = own_destination();
	struct search most = {.found = SLOT_NONE};

	if (!service || (own->noted < DESTINATION_BACKENDS && !is_to_shrink(own, clock_age())))
		return 0;
	most.base = service->backend_base;
	most.count = service->backend_count;
	bpf_loop(own->noted, weigh_most, &most, 0);
	own->most = most.found;
	return 0;
}

__noinline int shrink_destination(void)
{
	struct destination_search *search = own_destination();
	__u64 now = clock_age();

	if (!is_to_shrink(search, now))
		return 0;
	remove_noted(search, search->most);
	search->noted--;
	rewrite_destination(search, changed_now(search->value, search->noted, now));
	return 0;
}

/*
 * 1 ends the search: one that has less than half its weight of active connections. The record of a removed backend has
 * no weight, and the counts of nobody, which may be below 0.
 */
static long find_idle(__u32 index, struct search *search)
{
	__u32 record = search->base + index;
	const struct backend *backend = AT(backends, record);
	struct connections *own = AT(connections, backend->counter);

	if (!backend->weight || active_of(LOAD(own->counts)) * 2 >= backend->weight ||
	    (search->limited && is_full(record, own)))
		return 0;
	search->found = index;
	return 1;
}

/* The backend that was kept is not, if it is overloaded. Answers which one still is, or SLOT_NONE. */
__noinline __u32 leave_overloaded(const struct service *service)
{
	struct destination_search *own = own_destination();
	struct search search = {.found = SLOT_NONE};
	const struct backend *backend;

	if (!service || own->kept == SLOT_NONE)
		return SLOT_NONE;
	search.base = service->backend_base;
	search.limited = service->flags & SERVICE_LIMITED;
	backend = AT(backends, search.base + own->kept);
	if (active_of(LOAD(AT(connections, backend->counter)->counts)) <= backend->weight)
		return own->kept;
	bpf_loop(service->backend_count, find_idle, &search, 0);
	if (search.found != SLOT_NONE)
		own->kept = SLOT_NONE;
	return own->kept;
}

/* Notes who got a flow because no backend of the note did; answers who. */
__noinline __u32 note_destination(const struct service *service, __u32 backend)
{
	struct destination_search *search = own_destination();
	__u64 now = clock_age(), value = search->value;
	__u32 noted = search->noted;

	if (!service || search->kept != SLOT_NONE || backend >= SLOT_NONE || (noted && is_noted(search, backend)))
		return backend;
	if (!noted || service->choice == CHOICE_LBLC) {
		search->backend[0] = backend;
		search->backend[1] = 0;
		noted = 1;
	} else {
		if (noted >= DESTINATION_BACKENDS)
			remove_noted(search, search->most);
		else
			noted++;
		add_noted(search, backend);
	}
	if (search->noted)
		rewrite_destination(search, changed_now(value, noted, now));
	else if (value)
		rewrite_destination(search, changed_now(used_now(value, DESTINATION_ONCE, now), noted, now));
	else
		insert_destination(search, now);
	return backend;
}

/*
 * SLOT_NONE: nobody takes new flows. SLOT_FULL: all who would are full. One step after the other, whatever came of the
 * one before: so the verifier has one way to follow, and no chain of calls becomes longer than others are.
 */
static __always_inline __u32 choose_by_destination(const struct service *service, const struct packet *packet)
{
	__u32 found;

	recall_destination(service, packet);
	keep_least_loaded(service);
	find_most_loaded(service);
	shrink_destination();
	found = leave_overloaded(service);
	found = least_loaded(service->backend_base, service->backend_count, CHOICE_WLC,
			     service->flags & SERVICE_LIMITED, found);
	return note_destination(service, found);
}

#endif
