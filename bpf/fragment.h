/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Fragments: the first one of a datagram has the ports, is balanced as any packet, and leaves a note of where it went;
 * the later ones follow the note. XDP cannot hold a frame back, so that a later fragment that comes first is dropped by
 * name, unless its VIP's only service hashes sources without ports.
 */
#ifndef XLB_FRAGMENT_H
#define XLB_FRAGMENT_H

#include "directory.h"
#include "flow.h"

/*
 * A datagram's name: of IPv4 a bijection of source, identification and protocol, another one for each VIP, under a
 * secret seed. Of a prefix the destination is mixed in. Functions that take it are not inlined: the verifier proves
 * each once, instead of on every way that leads there.
 */
static __always_inline __u64 fragment_key(const struct packet *packet)
{
	__u64 seed = CONSTANT64(FLOW_SEED), word;

	/*
	 * Of IPv6 the name is source, VIP and identification alone (RFC 8200 section 4.5): 288 bits mixed into 64. Not
	 * the VIP's handle, which is another's after some changes of the directory.
	 */
	if (packet->is_ipv6) {
		word = hash_address6(packet->source6.high, packet->source6.low, seed) + packet->identification_be;
		return hash_mix(hash_mix(word, seed) + fold_address6(packet->vip6), seed);
	}
	seed += (__u64)packet->vip_be << 1;
	word = packet->source_be | (__u64)packet->identification_be << 32 | (__u64)packet->protocol << 48;
	if (packet->is_prefix)
		word = hash_address6(packet->source6.high, word, seed);
	return hash_mix(word, seed);
}

/*
 * Notes where a first fragment goes, for later ones: its port, backend and state, as they stand in a flow's value. Its
 * own entry, a free one, or the oldest gives way; where another CPU is quicker there is no note, and later ones are
 * dropped.
 */
__noinline int fragment_note(__u64 key, __u64 goes)
{
	const __u64 claimed = (__u64)FLOW_CLAIMED << FLOW_STATE_SHIFT;
	struct flow_bucket *bucket = AT(fragments, key >> 32);
	__u64 now = clock_age(), before = 0;
	__u32 oldest = 0, victim = 0;
	struct flow *flow;

	for (int i = 0; i < FLOWS_PER_BUCKET; i++) {
		__u64 value = READ_WORD(bucket->flow[i].value);
		__u32 state = flow_state(value);
		/* From 1: the older, the more readily. */
		__u32 ready = 1 + (state == FLOW_FREE ? FLOW_AGE_MASK : flow_idle(value, now));

		if (state == FLOW_CLAIMED)
			continue;
		if (READ_WORD(bucket->flow[i].key) == key)
			ready = FLOW_AGE_MASK + 2;
		if (ready > oldest) {
			victim = i;
			before = value;
			oldest = ready;
		}
	}
	flow = &bucket->flow[victim % FLOWS_PER_BUCKET];
	if (!oldest || __sync_val_compare_and_swap(&flow->value, before, claimed) != before)
		return 0;
	WRITE_WORD(flow->key, key);
	__sync_val_compare_and_swap(&flow->value, claimed, goes | flow_value(key << FLOW_CHECK_SHIFT, 0, 0, now));
	return 0;
}

/* Where the first fragment went: port, backend and state, as a flow's value has them. 0: it was not seen. */
__noinline __u32 fragment_follow(__u64 key)
{
	struct flow_bucket *bucket = AT(fragments, key >> 32);
	__u64 now = clock_age(), value;

	for (int i = 0; i < FLOWS_PER_BUCKET; i++)
		if (flow_read(&bucket->flow[i], key, &value) && flow_state(value) > FLOW_CLAIMED &&
		    !((value ^ key << FLOW_CHECK_SHIFT) >> FLOW_CHECK_SHIFT) &&
		    flow_idle(value, now) <= settings_now()->fragment_timeout)
			return value; /* the lower half: it has a state, so that it is not 0 */
	return 0;
}

/*
 * The backend that a later fragment follows, SLOT_NONE if that is not known. The packet then has its port, and its
 * protocol: of IPv6 a later fragment may say another one than the first, whose word counts (RFC 8200 section 4.5).
 */
static __always_inline __u32 follow_first(struct packet *packet)
{
	__u32 goes = fragment_follow(fragment_key(packet));

	if (!goes)
		return SLOT_NONE;
	packet->port_be = goes;
	packet->protocol = flow_state(goes) == FLOW_UDP ? IPPROTO_UDP : IPPROTO_TCP;
	packet->fault = FAULT_NONE;
	return flow_backend(goes);
}

static __always_inline void lead_later(const struct packet *packet, __u32 backend)
{
	__u64 state = packet->protocol == IPPROTO_UDP ? FLOW_UDP : FLOW_ESTABLISHED;

	fragment_note(fragment_key(packet),
		      packet->port_be | backend << FLOW_BACKEND_SHIFT | state << FLOW_STATE_SHIFT);
}

#endif
