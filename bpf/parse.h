/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a frame says. Bounds of the input are checked here and nowhere else. */
#ifndef XLB_PARSE_H
#define XLB_PARSE_H

#include <linux/bpf.h>
#include <linux/icmp.h>
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
#include "instructions.h"
#include "xlb.h"

/* Keeps clang from reasoning about what it sees. */
#define OPAQUE(value) asm volatile("" : "+r"(value))

#define likely(condition)   __builtin_expect(!!(condition), 1)
#define unlikely(condition) __builtin_expect(!!(condition), 0)

enum tcp_flag { TCP_FIN = 0x01, TCP_SYN = 0x02, TCP_RST = 0x04, TCP_ACK = 0x10 };

/* Why a packet cannot be balanced, should it be for a VIP. */
enum fault {
	FAULT_NONE,
	FAULT_NOT_BALANCED = 1 + PASS_NOT_BALANCED,
	FAULT_MALFORMED = 1 + DROP_MALFORMED,
	FAULT_TRUNCATED = 1 + DROP_TRUNCATED,
	FAULT_EXTENSIONS = 1 + DROP_EXTENSIONS,
	FAULT_FRAGMENT = 1 + DROP_FRAGMENT, /* not the first one of its datagram */
};

/* What a packet is of the datagram or the flow that it belongs to. */
enum part {
	PART_ALL,
	PART_FIRST, /* a first fragment, with the ports */
	PART_LATER, /* a later fragment */
	PART_ERROR, /* an ICMP error: source and ports are those that it quotes, turned round */
};

/*
 * What the steps after parsing need to know: values alone, no pointers, so that a function that is not inlined can be
 * given it. Every octet has a name, because the verifier wants all of them written.
 */
struct packet {
	__u32 cpu_number;
	__u32 frame_bytes; /* in all its buffers */
	__u64 ring_seed;   /* these two: struct target's, of what it is for */
	__u64 hash_mask;
	struct address6 source6; /* of IPv6; of a prefix's packets, see enter_prefix */
	struct address6 vip6;    /* of IPv6 alone: its destination, also where that is in a prefix */
	__be32 source_be;        /* of IPv6: 0 */
	__be32 vip_be; /* of IPv6: its handle; or that of the prefix that the destination is in, of IPv4 the prefix */
	__be32 identification_be;
	__be16 source_port_be;
	__be16 port_be;
	__u8 protocol;
	__u8 tcp_flags; /* enum tcp_flag; 0 for UDP */
	__u8 fault;     /* enum fault; but for FAULT_NONE, ports and flags are not known */
	__u8 part;      /* enum part */
	__u8 is_new;    /* it opened a flow; known when its backend was chosen */
	__u8 is_ipv6;
	__u8 tags;      /* VLAN tags, 0 to 2 */
	__u8 is_prefix; /* vip_be is one */
};

/* The leading bits of a half of an address, as they are loaded from a frame. */
static __always_inline __u64 leading_bits(__u64 word_be, __u32 bits)
{
	if (!bits)
		return 0;
	return word_be & bpf_cpu_to_be64(~0ULL << ((64 - bits) & 63));
}

/* The VIP or prefix that a packet is for, as keys have it. */
static __always_inline __u64 vip_key(const struct packet *packet)
{
	return packet->vip_be | (__u64)packet->is_ipv6 << KEY_IPV6_SHIFT | (__u64)packet->is_prefix << KEY_PREFIX_SHIFT;
}

/* Both addresses of an IPv4 packet for a prefix, as struct flow6 has them. */
static __always_inline struct address6 prefix_flow(__be32 source_be, __be32 destination_be)
{
	return (struct address6){.high = (__u64)destination_be << PREFIX_FLOW_SHIFT | PREFIX_FLOW, .low = source_be};
}

/* From here on a packet is for a prefix. */
static __always_inline void enter_prefix(struct packet *packet, __be32 prefix_be)
{
	if (!packet->is_ipv6)
		packet->source6 = prefix_flow(packet->source_be, packet->vip_be);
	packet->vip_be = prefix_be;
	packet->is_prefix = true;
}

static __always_inline bool is_for_prefix6(const struct packet *packet)
{
	return packet->is_ipv6 & packet->is_prefix;
}

/* Whom a packet is for, as struct target's key. */
static __always_inline __u64 service_key(const struct packet *packet)
{
	return vip_key(packet) | (__u64)packet->port_be << KEY_PORT_SHIFT |
	       (__u64)packet->protocol << KEY_PROTOCOL_SHIFT;
}

/* Whom a packet comes from, in one word: address (of IPv6: 0) in bits 0-31, port in 32-47. Flow keys begin with it,
 * IPv4's hashes start from it. */
static __always_inline __u64 packet_source(const struct packet *packet)
{
	return packet->source_be | (__u64)packet->source_port_be << HASHED_SOURCE;
}

/* A client's first segment. */
static __always_inline bool is_first(__u32 tcp_flags)
{
	return (tcp_flags & (TCP_SYN | TCP_ACK)) == TCP_SYN;
}

static __always_inline bool opens_connection(const struct packet *packet)
{
	return is_first(packet->tcp_flags);
}

/* ---- the frame that nearly all are: no tag, no IP option, not a fragment, and a whole TCP or UDP header ---- */

/* Its words as they are loaded, some of them several fields at once: a comparison each. */
struct plain_frame {
	__u8 macs[2 * ETH_ALEN];
	__u32 kind; /* EtherType, version and header length, type of service */
	__be16 total_bytes_be;
	__be16 identification;
	__u32 carries; /* fragment bits and offset, time to live, protocol */
	__be16 checksum;
	__be32 source_be;
	__be32 destination_be;
	__be16 source_port_be; /* TCP and UDP begin with the two ports (RFC 9293 section 3.1, RFC 768) */
	__be16 port_be;
	__u8 after_ports[9];
	__u8 tcp_flags;
	__u8 tcp_rest[6];
} __attribute__((packed));

_Static_assert(sizeof(struct plain_frame) == ETH_HLEN + sizeof(struct iphdr) + sizeof(struct tcphdr), "plain frame");

/* Any fragment bit but "do not fragment": more fragments, or an offset (RFC 791 section 3.1). */
#define FRAGMENT_BITS_BE   bpf_htons(0x3fff)
#define FRAGMENT_OFFSET_BE bpf_htons(0x1fff)

enum plain {
	PLAIN_KIND_MASK = 0x00ffffff,
	PLAIN_KIND = 0x00450008, /* IPv4, a header of five words */
	PLAIN_CARRIES_MASK = (int)(0xff000000 | FRAGMENT_BITS_BE),
	PLAIN_PROTOCOL_SHIFT = 24,
};

/* One load, however it is aligned: clang would take a field of a packed struct octet by octet. */
#define LOAD(field) (*(const volatile typeof(field) *)(const void *)&(field))

/* A length as headers have it. Linux 6.1's verifier does not see that 16 bits stay 16 when they are swapped. */
static __always_inline __u64 read_length(__be16 length_be)
{
	__u64 length = bpf_ntohs(length_be);

	CUT(length, 0xffff);
	return length;
}

/* Is a frame plain? Nothing of it is kept but what it is for: registers are few, and reading once more is cheap. */
static __always_inline bool parse_plain(const void *data, const void *end, __u64 *key)
{
	const struct plain_frame *frame = data;
	__u64 total_bytes;
	__u32 carries;

	if ((void *)(frame + 1) > end || (LOAD(frame->kind) & PLAIN_KIND_MASK) != PLAIN_KIND)
		return false;
	carries = LOAD(frame->carries) & PLAIN_CARRIES_MASK;
	if (unlikely(carries != IPPROTO_TCP << PLAIN_PROTOCOL_SHIFT)) {
		OPAQUE(carries); /* TCP is asked for first */
		if (carries != IPPROTO_UDP << PLAIN_PROTOCOL_SHIFT)
			return false;
	}
	/* Of TCP's length even where it is UDP: what is shorter is read header by header. */
	total_bytes = read_length(LOAD(frame->total_bytes_be));
	if (total_bytes < sizeof(struct iphdr) + sizeof(struct tcphdr) || data + ETH_HLEN + total_bytes > end)
		return false;
	/* As service_key has it. */
	*key = LOAD(frame->destination_be) | (__u64)LOAD(frame->port_be) << KEY_PORT_SHIFT |
	       (__u64)carries << (KEY_PROTOCOL_SHIFT - PLAIN_PROTOCOL_SHIFT);
	return true;
}

/* What parse_plain said of it, once more: sparing a register on the way of those who need it but once. */
static __always_inline __u64 plain_key(const struct plain_frame *frame)
{
	__u64 protocol = LOAD(frame->carries) >> PLAIN_PROTOCOL_SHIFT;

	return LOAD(frame->destination_be) | (__u64)LOAD(frame->port_be) << KEY_PORT_SHIFT |
	       protocol << KEY_PROTOCOL_SHIFT;
}

/* As packet_source. */
static __always_inline __u64 plain_source(const struct plain_frame *frame)
{
	return LOAD(frame->source_be) | (__u64)LOAD(frame->source_port_be) << HASHED_SOURCE;
}

/* ---- any other frame, header by header ---- */

struct cursor {
	void *at;
	void *end;
	__u64 beyond; /* octets of the frame that lie in other buffers: they are counted, and not looked at */
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

/*
 * An XDP program may see tags where the interface does not strip them. Answers the EtherType behind at most two, and
 * how many there are.
 */
static __always_inline __be16 skip_vlan_tags(struct cursor *cursor, __be16 protocol_be, __u8 *tags)
{
#pragma unroll
	for (int i = 0; i < 2; i++) {
		struct vlan_tag *tag;

		if (protocol_be != bpf_htons(ETH_P_8021Q) && protocol_be != bpf_htons(ETH_P_8021AD))
			break;
		if (!take(cursor, sizeof(*tag), &tag))
			return 0;
		protocol_be = tag->protocol_be;
		*tags = i + 1;
	}
	return protocol_be;
}

/* From a place in it until the frame's end. */
static __always_inline __u64 octets_left(const struct cursor *cursor, const void *from)
{
	__u64 here = cursor->end - from;

	OPAQUE(here); /* or clang would add the two to a pointer, which the verifier forbids */
	return here + cursor->beyond;
}

/*
 * Takes the options of an IPv4 header whose first 20 octets are taken. False: RFC 791 section 3.1 is broken, which
 * demands a header of at least five words, and a total length that holds it and that the frame holds (padding may
 * follow).
 */
static __always_inline bool take_ipv4_options(struct cursor *cursor, const struct iphdr *ip)
{
	__u64 rest = octets_left(cursor, ip);
	__u32 total_bytes = bpf_ntohs(ip->tot_len);
	__u32 header_bytes = ip->ihl * 4;
	void *options;

	return ip->version == 4 && header_bytes >= sizeof(*ip) && take(cursor, header_bytes - sizeof(*ip), &options) &&
	       header_bytes <= total_bytes && total_bytes <= rest;
}

static __always_inline __u32 transport_bytes(__u8 protocol)
{
	return protocol == IPPROTO_TCP ? sizeof(struct tcphdr) : sizeof(struct udphdr);
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
	return bpf_ntohs(ip->tot_len) >= ip->ihl * 4 + transport_bytes(protocol);
}

/*
 * Reads an ICMP error whose first header word is at the cursor: it quotes the datagram that it is about, which a
 * backend has sent from the VIP, and of that at least eight octets after the IP header (RFC 792): the ports. False: it
 * is no error, or not one about a TCP or UDP datagram from this VIP.
 */
static __always_inline bool take_icmp_error(struct cursor *cursor, const struct iphdr *ip, struct packet *packet)
{
	struct icmphdr *icmp;
	struct iphdr *quoted;
	struct udphdr *ports;
	void *options;

	if (!take(cursor, sizeof(*icmp), &icmp) ||
	    (icmp->type != ICMP_DEST_UNREACH && icmp->type != ICMP_TIME_EXCEEDED && icmp->type != ICMP_PARAMETERPROB) ||
	    !take(cursor, sizeof(*quoted), &quoted) || quoted->version != 4 || quoted->ihl * 4 < (int)sizeof(*quoted) ||
	    !take(cursor, quoted->ihl * 4 - sizeof(*quoted), &options) || !take(cursor, sizeof(*ports), &ports))
		return false;
	/* Padding is no quote. */
	if (cursor->at - (const void *)ip > bpf_ntohs(ip->tot_len) || quoted->frag_off & FRAGMENT_OFFSET_BE ||
	    LOAD(quoted->saddr) != packet->vip_be ||
	    (quoted->protocol != IPPROTO_TCP && quoted->protocol != IPPROTO_UDP))
		return false;
	packet->protocol = quoted->protocol;
	packet->source_be = LOAD(quoted->daddr);
	packet->source_port_be = ports->dest;
	packet->port_be = ports->source;
	packet->part = PART_ERROR;
	return true;
}

static __always_inline __u8 find_fault(struct cursor *cursor, const struct iphdr *ip, struct packet *packet)
{
	if (!take_ipv4_options(cursor, ip))
		return FAULT_MALFORMED;
	if (packet->protocol == IPPROTO_ICMP && !(ip->frag_off & FRAGMENT_BITS_BE) &&
	    take_icmp_error(cursor, ip, packet))
		return FAULT_NONE;
	if (packet->protocol != IPPROTO_TCP && packet->protocol != IPPROTO_UDP)
		return FAULT_NOT_BALANCED;
	if (ip->frag_off & FRAGMENT_BITS_BE) {
		packet->identification_be = ip->id;
		packet->part = ip->frag_off & FRAGMENT_OFFSET_BE ? PART_LATER : PART_FIRST;
		if (packet->part == PART_LATER)
			return FAULT_FRAGMENT;
	}
	return holds_transport(ip, packet->protocol) && take_transport(cursor, packet) ? FAULT_NONE : FAULT_TRUNCATED;
}

/* Reads an IPv4 packet header by header. False: there is no whole IPv4 header at the cursor. */
static __always_inline bool parse_ipv4(struct cursor *cursor, struct packet *packet)
{
	struct iphdr *ip;

	if (!take(cursor, sizeof(*ip), &ip))
		return false;
	packet->source_be = LOAD(ip->saddr);
	packet->vip_be = LOAD(ip->daddr);
	packet->protocol = ip->protocol;
	packet->fault = find_fault(cursor, ip, packet);
	return true;
}

#endif
