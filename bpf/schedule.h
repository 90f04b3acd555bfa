/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Which backend gets a packet. Two ways:
 *
 * - by the ring (mh, sh, dh): hash -> slot -> backend, without any state;
 * - by the flow table (rr, wrr, lc, wlc, sed, nq, lblc, lblcr): the entry names the backend; a new flow runs the
 * scheduler (choose.h, locality.h) and is recorded; what cannot be recorded, and what has no entry, goes by the
 * service's ring. With one-packet scheduling (--ops, UDP) every datagram runs the scheduler, and none is recorded.
 *
 * A ring changes under living flows. A slot that then got another backend is *marked*, and remembers the backend
 * before. On a marked slot the flow table is asked first, whatever the scheduler; a new TCP flow gets the new backend
 * and is recorded; a TCP packet without an entry belongs to an older flow, goes to the backend before, and is recorded
 * too.
 *
 * A backend that was removed may keep its flows: it is alive then, and neither ring nor schedule names it. Or they are
 * *cut*: its entries, and the slots that remember it, lead to it, and forward() drops what comes, until an idle flow
 * would have ended.
 *
 * In a service with persistence a client's note (persist.h) speaks before ring and scheduler.
 */
#ifndef XLB_SCHEDULE_H
#define XLB_SCHEDULE_H

#include "budget.h"
#include "choose.h"
#include "flow.h"
#include "locality.h"
#include "lookup.h"
#include "persist.h"
#include "record.h"
#include "ring.h"

/* ---- new flows ---- */

/* The scheduler's choice. SLOT_NONE: nobody takes new flows. SLOT_FULL: all who would are full. */
static __always_inline __u32 choose_for_new(const struct service *service, const struct packet *packet)
{
	if (service->choice >= CHOICE_LBLC)
		return choose_by_destination(service, packet);
	if (service->choice != CHOICE_TURN)
		return least_loaded(service->backend_base, service->backend_count, service->choice,
				    service->flags & SERVICE_LIMITED, SLOT_NONE);
	return service->flags & SERVICE_LIMITED ? next_not_full(service) : next_in_schedule(service);
}

/*
 * The backend that the scheduler has for a new flow. While the bound on new flows is passed, and for a time after, the
 * ring decides in the scheduler's place, so that a repeated SYN that is beyond the bound goes where the first one went.
 */
static __always_inline __u32 scheduled_backend(const struct service *service, const struct packet *packet,
					       enum budget budget)
{
	if ((service->flags & (SERVICE_TRACKED | SERVICE_BY_RING)) == SERVICE_TRACKED && budget == BUDGET_LEFT)
		return choose_for_new(service, packet);
	return packet_slot(service, packet) & SLOT_BACKEND_MASK;
}

/* The backend of a new flow: its client's, if there is persistence, else one that is scheduled. */
static __always_inline __u32 backend_for_new(const struct service *service, const struct packet *packet,
					     enum budget budget)
{
	__u32 backend;

	if (service->flags & SERVICE_PERSISTENT) {
		backend = follow_note(service, packet);
		if (backend < SLOT_NONE)
			return backend;
	}
	backend = scheduled_backend(service, packet, budget);
	if (!(service->flags & SERVICE_PERSISTENT) || backend >= SLOT_NONE)
		return backend;
	return noted_backend(service, packet, backend);
}

/* ---- the way through the flow table ---- */

enum hold { ENTRY_LAPSED, ENTRY_HOLDS, ENTRY_CUT };

/*
 * An entry speaks for the packet unless its backend is gone, or the packet opens a new flow where the old one has
 * ended. One that is cut is not to be refreshed, so that it ends.
 */
static __always_inline enum hold entry_holds(const struct service *service, const struct packet *packet, __u64 value,
					     __u64 now)
{
	__u32 state = flow_state(value), flags;

	if (opens_connection(packet) && (state == FLOW_CLOSING || state == FLOW_CLOSED))
		return ENTRY_LAPSED;
	/*
	 * In a tracked service a TCP flow that was idle for long, and whose place nobody took, is still that flow. A
	 * hashed one writes entries only while its slots are marked: an old entry may be of a port's earlier use.
	 */
	if ((opens_connection(packet) || (service->flags & (SERVICE_TRACKED | SERVICE_UDP)) != SERVICE_TRACKED) &&
	    flow_expired(value, now))
		return ENTRY_LAPSED;
	flags = backend_flags(service, flow_backend(value));
	if (likely(flags & BACKEND_ALIVE))
		return ENTRY_HOLDS;
	return flags & BACKEND_CUT && !opens_connection(packet) && !flow_expired(value, now) ? ENTRY_CUT : ENTRY_LAPSED;
}

/* A packet without an entry that holds: chooses, and records what was chosen in a place of `place`, or in `flow` again.
 */
static __always_inline __u32 backend_without_entry(const struct service *service, struct packet *packet,
						   struct flow_place *place, struct flow *flow, __u64 value, __u64 now,
						   enum budget left, bool prefix6)
{
	bool opens = opens_connection(packet), udp = service->flags & SERVICE_UDP;
	struct cpu *cpu = own_cpu(packet->cpu_number);
	__u32 backend, state;
	__u64 entry;

	if (opens || udp) {
		backend = backend_for_new(service, packet, left);
		state = udp ? FLOW_UDP_ONCE : FLOW_HALF_OPEN;
	} else {
		backend = backend_by_ring(service, packet, now, CUT_COUNTS);
		if (backend_flags(service, backend) & BACKEND_CUT)
			return backend;
		state = packet->tcp_flags & TCP_RST   ? FLOW_CLOSED
			: packet->tcp_flags & TCP_FIN ? FLOW_CLOSING
						      : FLOW_ADOPTED;
	}
	if (backend >= SLOT_NONE)
		return backend;
	entry = flow_value(place->match, backend, state, now);
	if (flow ? !flow_replace(cpu, place, flow, value, entry) : !flow_record(cpu, packet, place, entry, prefix6))
		return backend_by_ring(service, packet, now, CUT_IS_GONE);
	if (service->flags & SERVICE_LIMITED)
		note_flow(service, backend);
	cpu->budget_used++;
	packet->is_new = opens || udp;
	return backend;
}

static __always_inline __u32 backend_by_flow(const struct service *service, struct packet *packet, bool prefix6)
{
	enum budget left = BUDGET_LEFT;
	struct flow_place place;
	struct flow *flow;
	__u64 now = clock_age(), value = 0;
	enum hold hold;

	packet->is_new = opens_connection(packet);
	/* A flood of SYNs must not cost two cache misses each: beyond the bound the table is not asked. */
	if (unlikely(opens_connection(packet))) {
		left = budget_left(own_cpu(packet->cpu_number), now);
		if (left == BUDGET_SPENT)
			return backend_by_ring(service, packet, now, CUT_IS_GONE);
	}
	flow_locate(&place, packet, service->id, prefix6);
	flow = flow_find(&place, packet, &value, prefix6);
	hold = flow ? entry_holds(service, packet, value, now) : ENTRY_LAPSED;
	if (likely(hold != ENTRY_LAPSED)) {
		__u32 after = likely(hold == ENTRY_HOLDS) ? flow_touch(&place, flow, value, packet, now) : FLOW_FREE;

		if (unlikely(after != FLOW_FREE && service->flags & SERVICE_PERSISTENT))
			touch_note(service, packet, flow_backend(value), after);
		return flow_backend(value);
	}
	if (!opens_connection(packet)) {
		left = budget_left(own_cpu(packet->cpu_number), now);
		if (left == BUDGET_SPENT)
			return backend_by_ring(service, packet, now, CUT_IS_GONE);
	}
	return backend_without_entry(service, packet, &place, flow, value, now, left, prefix6);
}

/* UDP on a marked slot: an entry speaks, where one is left from when the service was tracked; none is written. */
static __always_inline __u32 backend_of_marked_udp(const struct service *service, const struct packet *packet,
						   __u32 now_backend, bool prefix6)
{
	__u64 now = clock_age(), value = 0;
	struct flow_place place;
	struct flow *flow;
	enum hold hold;

	flow_locate(&place, packet, service->id, prefix6);
	flow = flow_find(&place, packet, &value, prefix6);
	hold = flow ? entry_holds(service, packet, value, now) : ENTRY_LAPSED;
	if (hold == ENTRY_LAPSED)
		return backend_before(service, packet, now_backend, now, CUT_IS_GONE);
	if (hold == ENTRY_HOLDS)
		flow_touch(&place, flow, value, packet, now);
	return flow_backend(value);
}

/* The backend of the flow that an ICMP error is about, as its next packet would find it; nothing is written. */
static __always_inline __u32 backend_of_error(const struct service *service, const struct packet *packet)
{
	__u32 slot = packet_slot(service, packet);
	__u64 now = clock_age(), value;

	if (service->flags & SERVICE_OPS || (!(service->flags & SERVICE_TRACKED) && !(slot & SLOT_MARKED)))
		return slot & SLOT_BACKEND_MASK;
	value = flow_value_of(packet, service->id);
	if (value && entry_holds(service, packet, value, now) != ENTRY_LAPSED)
		return flow_backend(value);
	return backend_by_ring(service, packet, now, CUT_IS_GONE);
}

/* SLOT_NONE, SLOT_FULL: none. `prefix6` as flow_locate has it. */
static __always_inline __u32 choose(const struct service *service, struct packet *packet, bool prefix6)
{
	__u32 slot;

	if (packet->part == PART_ERROR)
		return backend_of_error(service, packet);
	if (!(service->flags & SERVICE_TRACKED)) {
		packet->is_new = opens_connection(packet);
		slot = packet_slot(service, packet);
		if (likely(!(slot & SLOT_MARKED)))
			return slot & SLOT_BACKEND_MASK;
		if (service->flags & SERVICE_UDP)
			return backend_of_marked_udp(service, packet, slot & SLOT_BACKEND_MASK, prefix6);
	}
	if (service->flags & SERVICE_OPS)
		return next_in_schedule(service);
	return backend_by_flow(service, packet, prefix6);
}

/* Which backend gets a packet. Not inlined: the verifier proves it once, and not on every way that leads here. */
__noinline __u32 choose_backend(const struct service *service, struct packet *packet)
{
	return service && packet ? choose(service, packet, false) : SLOT_NONE;
}

/* As choose_backend, of a packet for a prefix of IPv6: so the verifier follows flows of the three tables apart. */
__noinline __u32 choose_prefix6_backend(const struct service *service, struct packet *packet)
{
	return service && packet ? choose(service, packet, true) : SLOT_NONE;
}

#endif
