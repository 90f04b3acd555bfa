/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Direct server return: count, rewrite the MACs, and out. The IP packet is not touched. */
#ifndef XLB_FORWARD_H
#define XLB_FORWARD_H

#include "config.h"
#include "maps.h"
#include "parse.h"
#include "verdict.h"

enum mac { MAC_BITS = 48 };

/* The eight octets from a MAC on; those behind the MAC are of no interest. */
static __always_inline __u64 load_mac(const __u8 *octets)
{
	return *(const __u64 *)octets << (64 - MAC_BITS);
}

/* Both MACs of a frame in two stores: six octets of the destination and two of the source, then the source's other
 * four. */
static __always_inline void store_macs(struct ethhdr *eth, __u64 destination, __u64 source)
{
	*(__u64 *)eth->h_dest = destination << (64 - MAC_BITS) >> (64 - MAC_BITS) | source << MAC_BITS;
	*(__u32 *)(eth->h_source + 2) = source >> 16;
}

/* own_slot is a constant to the verifier, and so is this address. */
static __always_inline const struct interface *own_interface(void)
{
	const struct interface *own = &interfaces[0];

	OPAQUE(own);
	return own + own_slot;
}

/* A flooded frame, or one that a promiscuous port sees, is somebody else's: forwarding it would make copies or loops.
 */
static __always_inline bool is_for_interface(const struct interface *interface, const struct ethhdr *eth)
{
	return load_mac(eth->h_dest) == interface->mac << (64 - MAC_BITS);
}

static __always_inline void count_backend(const struct backend *backend, const struct packet *packet, bool is_new)
{
	struct backend_counters *own = AT(counters, bpf_get_smp_processor_id() * counters_per_cpu + backend->counter);

	if (!own)
		return;
	own->packets++;
	own->bytes += packet->frame_bytes;
	if (is_new)
		own->flows++;
}

static __always_inline int forward(const struct interface *interface, const struct service *service,
				   const struct packet *packet, __u32 chosen, bool is_new)
{
	struct backend *backend;
	__u32 slot;
	__u64 word;

	if (chosen >= service->backend_count)
		return drop(packet->cpu, DROP_NO_BACKEND);
	backend = AT(backends, service->backend_base + chosen);
	if (!backend)
		return drop(packet->cpu, DROP_NO_BACKEND);
	word = *(volatile __u64 *)&backend->word; /* once: MAC and flags of one moment */
	if (!(word >> BACKEND_FLAGS_SHIFT & BACKEND_ALIVE))
		return drop(packet->cpu, DROP_BACKEND_DOWN);
	count_backend(backend, packet, is_new);
	if (word >> BACKEND_FLAGS_SHIFT & BACKEND_LOCAL)
		return pass(packet->cpu, PASS_LOCAL);

	slot = backend->interface;
	if (unlikely(slot != own_slot)) {
		struct interface *egress = AT(interfaces, slot);

		if (!egress)
			return drop(packet->cpu, DROP_BACKEND_DOWN);
		store_macs(packet->eth, word, egress->mac);
		count(packet->cpu, TX_REDIRECTED);
		return bpf_redirect(egress->ifindex, 0);
	}
	store_macs(packet->eth, word, interface->mac);
	count(packet->cpu, TX_FORWARDED);
	return XDP_TX;
}

#endif
