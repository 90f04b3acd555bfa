/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a frame says. Bounds of the input are checked here and nowhere else. */
#ifndef XLB_PARSE_H
#define XLB_PARSE_H

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <linux/types.h>
#include <linux/udp.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "xlb.h"

#define likely(condition)   __builtin_expect(!!(condition), 1)
#define unlikely(condition) __builtin_expect(!!(condition), 0)

enum tcp_flag { TCP_FIN = 0x01, TCP_SYN = 0x02, TCP_RST = 0x04, TCP_ACK = 0x10 };

/* Why a packet cannot be balanced, should it be for a VIP. */
enum fault {
	FAULT_NONE,
	FAULT_NOT_BALANCED = 1 + PASS_NOT_BALANCED,
	FAULT_MALFORMED = 1 + DROP_MALFORMED,
	FAULT_TRUNCATED = 1 + DROP_TRUNCATED,
	FAULT_FRAGMENT = 1 + DROP_FRAGMENT,
};

/* What the steps after parsing need to know: values, no pointers into the frame but the first. */
struct packet {
	struct ethhdr *eth;
	struct cpu *cpu; /* the counters of whoever works on it */
	__u64 frame_bytes;
	__u64 ring_seed; /* of the service it is for */
	__be32 source_be;
	__be32 vip_be;
	__be16 source_port_be;
	__be16 port_be;
	__u8 protocol;
	__u8 tcp_flags; /* enum tcp_flag; 0 for UDP */
	__u8 fault;     /* enum fault; but for FAULT_NONE, ports and flags are not known */
};

/* A client's first segment. */
static __always_inline bool opens_connection(const struct packet *packet)
{
	return (packet->tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

/* ---- the frame that nearly all are: no tag, no IP option, not a fragment, and a whole TCP or UDP header ---- */

struct plain_frame {
	__u8 destination[ETH_ALEN];
	__u8 source[ETH_ALEN];
	__be16 ether_type_be;
	__u8 version_and_words; /* 0x45: IPv4, a header of five words */
	__u8 service_type;
	__be16 total_bytes_be;
	__be16 identification;
	__be16 fragment_be;
	__u8 time_to_live;
	__u8 protocol;
	__be16 checksum;
	__be32 source_be;
	__be32 destination_be;
	__be16 source_port_be; /* TCP and UDP begin with the two ports (RFC 9293 section 3.1, RFC 768) */
	__be16 port_be;
	__u8 after_ports[9];
	__u8 tcp_flags;
	__u8 tcp_rest[6];
} __attribute__((packed, aligned(2)));

_Static_assert(sizeof(struct plain_frame) == ETH_HLEN + sizeof(struct iphdr) + sizeof(struct tcphdr), "plain frame");

enum plain { PLAIN_VERSION_AND_WORDS = 0x45 };

/* Any fragment bit but "do not fragment": more fragments, or an offset (RFC 791 section 3.1). */
#define FRAGMENT_BITS_BE bpf_htons(0x3fff)

/* Reads a plain frame. False: it is not one; nothing is said of it then. */
static __always_inline bool parse_plain(void *data, void *end, struct packet *packet)
{
	struct plain_frame *frame = data;
	__u32 total_bytes;

	if ((void *)(frame + 1) > end)
		return false;
	total_bytes = bpf_ntohs(frame->total_bytes_be);
	packet->protocol = frame->protocol;
	/* Of TCP's length even where it is UDP: what is shorter is read header by header. */
	if (frame->ether_type_be != bpf_htons(ETH_P_IP) || frame->version_and_words != PLAIN_VERSION_AND_WORDS ||
	    frame->fragment_be & FRAGMENT_BITS_BE || total_bytes < sizeof(struct iphdr) + sizeof(struct tcphdr) ||
	    total_bytes > packet->frame_bytes - ETH_HLEN)
		return false;
	packet->source_be = frame->source_be;
	packet->vip_be = frame->destination_be;
	packet->source_port_be = frame->source_port_be;
	packet->port_be = frame->port_be;
	if (likely(packet->protocol == IPPROTO_TCP))
		packet->tcp_flags = frame->tcp_flags;
	else if (packet->protocol == IPPROTO_UDP)
		packet->tcp_flags = 0;
	else
		return false;
	packet->fault = FAULT_NONE;
	return true;
}

/* ---- any other frame, header by header ---- */

struct cursor {
	void *at;
	void *end;
};

/* Takes the next `size` octets. False: the frame is shorter. */
static __always_inline bool take(struct cursor *cursor, __u32 size, void *taken)
{
	void *start = cursor->at;

	if (start + size > cursor->end)
		return false;
	cursor->at = start + size;
	*(void **)taken = start;
	return true;
}

struct vlan_tag {
	__be16 control_be;
	__be16 protocol_be;
};

/* An XDP program may see tags where the interface does not strip them. Answers the EtherType behind at most two. */
static __always_inline __be16 skip_vlan_tags(struct cursor *cursor, __be16 protocol_be)
{
#pragma unroll
	for (int i = 0; i < 2; i++) {
		struct vlan_tag *tag;

		if (protocol_be != bpf_htons(ETH_P_8021Q) && protocol_be != bpf_htons(ETH_P_8021AD))
			break;
		if (!take(cursor, sizeof(*tag), &tag))
			return 0;
		protocol_be = tag->protocol_be;
	}
	return protocol_be;
}

/*
 * Takes the options of an IPv4 header whose first 20 octets are taken. False: RFC 791 section 3.1 is broken, which
 * demands a header of at least five words, and a total length that holds it and that the frame holds (padding may
 * follow).
 */
static __always_inline bool take_ipv4_options(struct cursor *cursor, const struct iphdr *ip)
{
	__u64 rest = cursor->end - (const void *)ip;
	__u32 total_bytes = bpf_ntohs(ip->tot_len);
	__u32 header_bytes = ip->ihl * 4;
	void *options;

	return ip->version == 4 && header_bytes >= sizeof(*ip) && take(cursor, header_bytes - sizeof(*ip), &options) &&
	       header_bytes <= total_bytes && total_bytes <= rest;
}

/* Takes the TCP or UDP header that starts at the cursor. False: the frame does not hold it whole. */
static __always_inline bool take_transport(struct cursor *cursor, struct packet *packet)
{
	struct udphdr *ports;
	void *rest;

	if (!take(cursor, sizeof(*ports), &ports))
		return false;
	packet->source_port_be = ports->source;
	packet->port_be = ports->dest;
	if (packet->protocol == IPPROTO_TCP) {
		if (!take(cursor, sizeof(struct tcphdr) - sizeof(*ports), &rest))
			return false;
		packet->tcp_flags = ((__u8 *)ports)[13];
	}
	return true;
}

/* The datagram may end before the frame does: padding is no header. */
static __always_inline bool holds_transport(const struct iphdr *ip, __u8 protocol)
{
	__u32 header_bytes = protocol == IPPROTO_TCP ? sizeof(struct tcphdr) : sizeof(struct udphdr);

	return bpf_ntohs(ip->tot_len) >= ip->ihl * 4 + header_bytes;
}

static __always_inline __u8 find_fault(struct cursor *cursor, const struct iphdr *ip, struct packet *packet)
{
	if (!take_ipv4_options(cursor, ip))
		return FAULT_MALFORMED;
	if (packet->protocol != IPPROTO_TCP && packet->protocol != IPPROTO_UDP)
		return FAULT_NOT_BALANCED;
	if (ip->frag_off & FRAGMENT_BITS_BE)
		return FAULT_FRAGMENT;
	return holds_transport(ip, packet->protocol) && take_transport(cursor, packet) ? FAULT_NONE : FAULT_TRUNCATED;
}

/* Reads a frame header by header. False: there is no IPv4 header in it. */
static __always_inline bool parse_any(void *data, void *end, struct packet *packet)
{
	struct cursor cursor = {.at = data, .end = end};
	struct ethhdr *eth;
	struct iphdr *ip;

	if (!take(&cursor, sizeof(*eth), &eth) || skip_vlan_tags(&cursor, eth->h_proto) != bpf_htons(ETH_P_IP) ||
	    !take(&cursor, sizeof(*ip), &ip))
		return false;
	packet->source_be = ip->saddr;
	packet->vip_be = ip->daddr;
	packet->protocol = ip->protocol;
	packet->source_port_be = packet->port_be = 0;
	packet->tcp_flags = 0;
	packet->fault = find_fault(&cursor, ip, packet);
	return true;
}

#endif
