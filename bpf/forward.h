/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Direct server return: count, rewrite MACs and VLAN tag, and out. The IP packet is not touched. */
#ifndef XLB_FORWARD_H
#define XLB_FORWARD_H

#include "config.h"
#include "maps.h"
#include "parse.h"
#include "verdict.h"
#include "vlan.h"

/* Both MACs of a frame in two stores. Arguments have the MAC in their upper 48 bits. */
static __always_inline void store_macs(struct ethhdr *eth, __u64 destination, __u64 source)
{
	*(volatile __u64 *)(void *)eth = destination >> 16 | source << 32;
	*(volatile __u32 *)((void *)eth + 8) = source >> 32;
}

/* This copy of the program is attached to one interface. The verifier knows the constant, and so this address. */
static __always_inline const struct interface *own_interface(const struct root *root)
{
	const void *own = root;

	APPLY_CONSTANT(own, +=, OWN_INTERFACE);
	return own;
}

/* A flooded frame, or one that a promiscuous port sees, is somebody else's: forwarding it would make copies or loops.
 */
static __always_inline bool is_for_interface(const struct interface *interface, const struct ethhdr *eth)
{
	__u64 destination = *(const volatile __u64 *)(const void *)eth;

	destination <<= 16;
	OPAQUE(destination); /* clang would mask both sides instead, by a ten-byte constant */
	return destination == interface->mac_high;
}

static __always_inline void count_backend(const struct backend *backend, __u64 cpu_number, __u64 frame_bytes,
					  bool is_new)
{
	struct backend_counters *own;

	NOTE_BACKEND(cpu_number, backend);
	APPLY_CONSTANT(cpu_number, *=, COUNTERS_PER_CPU);
	own = AT(counters, cpu_number + backend->counter);
	own->packets++;
	own->bytes += frame_bytes;
	if (is_new)
		own->flows++;
}

/* A frame's source MAC, as struct interface has one. */
static __always_inline __u64 source_mac(const struct ethhdr *eth)
{
	return *(const volatile __u64 *)((const void *)eth + ETH_ALEN) << BACKEND_MAC_SHIFT;
}

struct mac_search {
	__u64 mac_high;
	__u32 base;
	__u32 found;
};

static long compare_mac(__u32 index, struct mac_search *search)
{
	search->found = !((LOAD(AT(backends, search->base + index)->word) ^ search->mac_high) >> BACKEND_MAC_SHIFT);
	return search->found; /* 1 ends the loop */
}

/*
 * Was this frame sent by another director that is a backend of the service, and has chosen this one? A real server
 * holds the VIP, and sends nothing to it. bpf_loop, because the verifier would walk a loop over 4,000 backends step by
 * step.
 */
static __always_inline bool comes_from_backend(const struct service *service, const struct ethhdr *eth)
{
	struct mac_search search = {.mac_high = source_mac(eth), .base = service->backend_base};

	bpf_loop(service->backend_count, compare_mac, &search, 0);
	return search.found;
}

/*
 * Would a frame go back to whom it came from? A real server holds the VIP, and sends nothing to it: only another
 * director does, of which this one is a backend, and it would send the frame here again. `word` is a backend's.
 */
static __always_inline bool is_sender(__u64 word, const struct ethhdr *eth)
{
	return word >> BACKEND_MAC_SHIFT == source_mac(eth) >> BACKEND_MAC_SHIFT;
}

/* Has a frame leave by another interface. What the kernel then cannot send of a redirect is not the program's to see.
 */
static __always_inline int redirect(__u32 slot, struct cpu *cpu)
{
	if (bpf_redirect_map(&egress, slot, XDP_DROP) != XDP_REDIRECT)
		return drop(cpu, DROP_NO_EGRESS);
	count(cpu, TX_REDIRECTED);
	return XDP_REDIRECT;
}

/* Out by the interface that leads to the backend. */
static __always_inline int send_out(struct xdp_md *ctx, const struct interface *own, struct ethhdr *eth,
				    const struct packet *packet, const struct backend *backend, __u64 word,
				    struct cpu *cpu)
{
	const struct root *root = root_now();
	__u32 slot = word >> BACKEND_INTERFACE_SHIFT & 0xff;
	bool goes_back = slot == CONSTANT(OWN_SLOT);
	__u32 vlan = word & BACKEND_TAGGED ? backend->vlan : 0;

	if (slot >= INTERFACES_MAX)
		return drop(cpu, DROP_NO_EGRESS);
	store_macs(eth, word, goes_back ? own->mac_high : root->interface[slot].mac_high);
	if ((packet->tags || vlan) && !bring_into_vlan(ctx, packet->tags, vlan))
		return drop(cpu, DROP_NO_HEADROOM);
	return goes_back ? XDP_TX : redirect(slot, cpu);
}

static __always_inline int forward(struct xdp_md *ctx, const struct interface *interface, const struct service *service,
				   struct ethhdr *eth, const struct packet *packet, __u32 chosen)
{
	struct cpu *cpu = own_cpu(packet->cpu_number);
	struct backend *backend;
	int verdict;
	__u64 word;

	NOTE_SERVICE(packet->cpu_number, service);
	if (chosen >= service->backend_count)
		return drop(cpu, chosen == SLOT_FULL ? DROP_BACKENDS_FULL : DROP_NO_BACKEND);
	backend = AT(backends, service->backend_base + chosen);
	NOTE_BACKEND(packet->cpu_number, backend);
	word = LOAD(backend->word); /* once: MAC, interface and flags of one moment */
	if (!(word & BACKEND_ALIVE))
		return drop(cpu, word & BACKEND_CUT ? DROP_BACKEND_CUT : DROP_BACKEND_DOWN);
	if (!(word & BACKEND_LOCAL) && is_sender(word, eth))
		return drop(cpu, DROP_TO_SENDER);
	verdict =
	    word & BACKEND_LOCAL ? pass(cpu, PASS_LOCAL) : send_out(ctx, interface, eth, packet, backend, word, cpu);
	if (verdict != XDP_DROP)
		count_backend(backend, packet->cpu_number, packet->frame_bytes, packet->is_new);
	return verdict;
}

/*
 * As forward, for a backend that is reached where the packet came in. False: it is not, or is who has sent the packet,
 * and nothing is done.
 */
static __always_inline bool send_back(const struct interface *interface, const struct service *service,
				      struct ethhdr *eth, __u64 frame_bytes, __u64 cpu_number, __u32 chosen,
				      bool is_new)
{
	struct backend *backend;
	__u64 word;

	NOTE_SERVICE(cpu_number, service);
	if (chosen >= service->backend_count)
		return false;
	backend = AT(backends, service->backend_base + chosen);
	word = LOAD(backend->word);
	APPLY_CONSTANT(word, ^=, OWN_PATH); /* the MAC is not touched */
	if (word & BACKEND_PATH_MASK || word == source_mac(eth))
		return false;
	count_backend(backend, cpu_number, frame_bytes, is_new);
	store_macs(eth, word, interface->mac_high);
	return true;
}

/*
 * As send_back, for a backend that is reached by another interface, where it and the frame have no tag. A verdict, or
 * TAKE_LONG_WAY, and then nothing is done.
 */
static __always_inline int send_elsewhere(const struct service *service, struct ethhdr *eth, __u64 frame_bytes,
					  __u64 cpu_number, __u32 chosen, bool is_new)
{
	const struct root *root = root_now();
	struct backend *backend;
	__u64 word, slot;
	int verdict;

	if (chosen >= service->backend_count)
		return TAKE_LONG_WAY;
	backend = AT(backends, service->backend_base + chosen);
	word = LOAD(backend->word);
	slot = word >> BACKEND_INTERFACE_SHIFT & 0xff;
	if ((word & BACKEND_FLAGS_MASK) != BACKEND_ALIVE || slot == CONSTANT(OWN_SLOT) || slot >= INTERFACES_MAX ||
	    is_sender(word, eth))
		return TAKE_LONG_WAY;
	NOTE_SERVICE(cpu_number, service);
	NOTE_BACKEND(cpu_number, backend);
	store_macs(eth, word, root->interface[slot].mac_high);
	verdict = redirect(slot, own_cpu(cpu_number));
	if (verdict == XDP_REDIRECT)
		count_backend(backend, cpu_number, frame_bytes, is_new);
	return verdict;
}

#endif
