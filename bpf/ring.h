/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * A service's ring: which slot of it a packet falls on, and which backend that slot leads to.
 *
 * A ring changes under living flows. A slot that then got another backend is *marked*, and remembers the backend before
 * (docs/decisions/0003-marked-slots.md).
 */
#ifndef XLB_RING_H
#define XLB_RING_H

#include "directory.h"
#include "flow.h"
#include "persist.h"

/* The slot of the ring that a source falls on, with its mark. */
static __always_inline __u32 ring_slot(const struct service *service, __u64 source, __u64 hash_mask, __u64 ring_seed)
{
	__u64 hash = hash_mix(source & hash_mask, ring_seed);

	return line_slot(service->ring_line, hash_slot(hash, service->ring_size));
}

/* As ring_slot, of an IPv6 source. */
static __always_inline __u32 ring_slot6(const struct service *service, struct address6 source, __be16 source_port_be,
					__u64 hash_mask, __u64 ring_seed)
{
	__u64 port = (__u64)source_port_be << HASHED_SOURCE & hash_mask;
	__u64 hash = hash_source6(source.high, source.low, port, ring_seed);

	return line_slot(service->ring_line, hash_slot(hash, service->ring_size));
}

/* The hash by which rings are asked, under any service's seed and mask. */
static __always_inline __u64 packet_hash(const struct packet *packet, __u64 hash_mask, __u64 ring_seed)
{
	if (hash_mask & HASHED_DESTINATION)
		return packet->is_ipv6 ? hash_source6(packet->vip6.high, packet->vip6.low, 0, ring_seed)
				       : hash_mix(packet->source6.high >> PREFIX_FLOW_SHIFT, ring_seed);
	if (packet->is_ipv6)
		return hash_source6(packet->source6.high, packet->source6.low,
				    (__u64)packet->source_port_be << HASHED_SOURCE & hash_mask, ring_seed);
	return hash_mix(packet_source(packet) & hash_mask, ring_seed);
}

static __always_inline __u32 packet_slot(const struct service *service, const struct packet *packet)
{
	__u64 hash = packet_hash(packet, packet->hash_mask, packet->ring_seed);

	return line_slot(service->ring_line, hash_slot(hash, service->ring_size));
}

/* Whether a flow that is known by its slot alone may be of a backend that is cut. */
enum cut { CUT_IS_GONE, CUT_COUNTS };

/*
 * The backend that a marked slot had before, if packets can be sent there; else the one that it has now. The ring
 * before may differ in size and in hash too, where a person changed those.
 */
static __always_inline __u32 backend_before(const struct service *service, const struct packet *packet,
					    __u32 now_backend, __u64 now, enum cut cut)
{
	__u64 mask = (1ULL << (service->flags & SERVICE_BEFORE_HASH_PORT ? HASHED_SOURCE_PORT : HASHED_SOURCE)) - 1;
	__u64 hash = packet_hash(packet, service->flags & SERVICE_BEFORE_HASH_DESTINATION ? HASHED_DESTINATION : mask,
				 service->before_seed);
	__u32 slot = line_slot(service->before_line, hash_slot(hash, service->before_size));
	__u32 before = slot & SLOT_BACKEND_MASK;
	__u32 flags = backend_flags(service, before);
	bool is_cut = cut == CUT_COUNTS && flags & BACKEND_CUT;

	if (service->flags & SERVICE_UDP || is_cut) {
		/* A mark counts for UDP, and for what is cut, until the timeout has passed. */
		__u32 epochs = ((now >> (service->mark_shift & 31)) - (slot >> BEFORE_EPOCH_SHIFT)) & BEFORE_EPOCH_MASK;

		if ((__s32)(service->marks_end - (__u32)now) < 0 || epochs > MARK_EPOCHS)
			return now_backend;
	}
	return flags & BACKEND_ALIVE || is_cut ? before : now_backend;
}

/*
 * Where packets go that have no entry in the flow table: where the client's note leads, if there is persistence, else
 * to the oldest backend that the slot may still have flows of.
 */
static __always_inline __u32 backend_by_ring(const struct service *service, const struct packet *packet, __u64 now,
					     enum cut cut)
{
	__u32 slot = packet_slot(service, packet);

	if (service->flags & SERVICE_PERSISTENT) {
		__u32 noted = follow_note(service, packet);

		if (noted != SLOT_NONE)
			return noted;
	}
	if (likely(!(slot & SLOT_MARKED)))
		return slot & SLOT_BACKEND_MASK;
	return backend_before(service, packet, slot & SLOT_BACKEND_MASK, now, cut);
}

#endif
