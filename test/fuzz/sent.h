/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How a frame leaves: by which interface, with which MACs and tag. */
#ifndef XLB_FUZZ_SENT_H
#define XLB_FUZZ_SENT_H

#include "demand.h"
#include "outcome.h"
#include "tables.h"

enum { MACS_BYTES = 2 * ETH_ALEN };

static bool has_macs(const __u8 *frame, const __u8 *destination, const __u8 *source)
{
	return !memcmp(frame, destination, ETH_ALEN) && !memcmp(frame + ETH_ALEN, source, ETH_ALEN);
}

static bool is_tag(const __u8 *type)
{
	return (type[0] == 0x81 && type[1] == 0x00) || (type[0] == 0x88 && type[1] == 0xa8);
}

/*
 * What stands behind a frame's MACs once it is in a segment (0: the untagged one): of at most two tags the inner one
 * has its id, is gone, or has come. Answers how much that is.
 */
static size_t in_segment(struct frame frame, __u16 vlan, __u8 *rest)
{
	const __u8 *type = frame.octets + MACS_BYTES;
	size_t size = frame.size - MACS_BYTES, inner = is_tag(type) && is_tag(type + 4) ? 4 : 0;

	memcpy(rest, type, size);
	if (is_tag(type) && vlan) {
		rest[inner + 2] = (rest[inner + 2] & 0xf0) | vlan >> 8;
		rest[inner + 3] = vlan;
	} else if (is_tag(type)) {
		memcpy(rest + inner, type + inner + 4, size - inner - 4);
		size -= 4;
	} else if (vlan) {
		const __u8 tag[] = {0x81, 0x00, vlan >> 8, vlan};

		memcpy(rest, tag, sizeof(tag));
		memcpy(rest + sizeof(tag), type, size);
		size += 4;
	}
	return size;
}

/* Out by an interface: to the backend that was counted, and from this director. */
static void check_sent(struct frame frame, const struct outcome *outcome, int backend)
{
	bool redirected = outcome->verdict == XDP_REDIRECT;
	enum reach reach = reach_of(backend / BACKENDS_PER_SERVICE, backend % BACKENDS_PER_SERVICE);
	__u8 mac[ETH_ALEN], rest[FRAME_BYTES_MAX + HEADROOM_BYTES];
	size_t size;

	backend_mac(backend, mac);
	demand(redirected ? reach == REACH_OTHER : reach == REACH_OWN || reach == REACH_TAGGED,
	       "a frame leaves where its backend is reached");
	demand(outcome->egress == (redirected ? OTHER_IFINDEX : 0), "a redirect leads to the backend's interface");
	demand(memcmp(frame.octets + ETH_ALEN, mac, ETH_ALEN), "no frame goes back to its sender");
	demand(has_macs(outcome->frame, mac, redirected ? other_mac : own_mac), "a frame leaves with its two MACs");
	size = in_segment(frame, reach == REACH_TAGGED ? VLAN_OF_TAGGED : 0, rest);
	demand(outcome->size == MACS_BYTES + size && !memcmp(outcome->frame + MACS_BYTES, rest, size),
	       "no octet but the MACs and the segment's tag changes");
}

#endif
