/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What an IPv6 packet says: header (RFC 8200), extension headers up to a bound, and errors about flows (RFC 4443). */
#ifndef XLB_PARSE6_H
#define XLB_PARSE6_H

#include <linux/icmpv6.h>
#include <linux/ipv6.h>
#include "parse.h"

/* ---- the frame that nearly all are: no tag, no extension header, and a whole TCP or UDP header ---- */

struct plain_frame6 {
	__u8 macs[2 * ETH_ALEN];
	__u32 kind; /* EtherType, version, and part of class and flow label */
	__u8 flow_label[2];
	__be16 payload_bytes_be;
	__u8 next_header;
	__u8 hop_limit;
	struct address6 source;
	struct address6 destination;
	__be16 source_port_be;
	__be16 port_be;
	__u8 after_ports[9];
	__u8 tcp_flags;
	__u8 tcp_rest[6];
} __attribute__((packed));

_Static_assert(sizeof(struct plain_frame6) == ETH_HLEN + sizeof(struct ipv6hdr) + sizeof(struct tcphdr), "plain frame");

enum plain6 { PLAIN6_KIND_MASK = 0x00f0ffff, PLAIN6_KIND = 0x0060dd86 };

static __always_inline bool parse_plain6(const void *data, const void *end)
{
	const struct plain_frame6 *frame = data;
	__u64 payload_bytes;
	__u32 next_header;

	if ((void *)(frame + 1) > end || (LOAD(frame->kind) & PLAIN6_KIND_MASK) != PLAIN6_KIND)
		return false;
	next_header = frame->next_header;
	if (unlikely(next_header != IPPROTO_TCP)) {
		OPAQUE(next_header); /* TCP is asked for first */
		if (next_header != IPPROTO_UDP)
			return false;
	}
	/* Of TCP's length even where it is UDP: what is shorter is read header by header. */
	payload_bytes = read_length(LOAD(frame->payload_bytes_be));
	return payload_bytes >= sizeof(struct tcphdr) &&
	       data + ETH_HLEN + sizeof(struct ipv6hdr) + payload_bytes <= end;
}

static __always_inline struct address6 plain_source6(const struct plain_frame6 *frame)
{
	return (struct address6){LOAD(frame->source.high), LOAD(frame->source.low)};
}

static __always_inline struct address6 plain_destination6(const struct plain_frame6 *frame)
{
	return (struct address6){LOAD(frame->destination.high), LOAD(frame->destination.low)};
}

/* As service_key. `handle_be` is that of the frame's destination, or of the prefix that it is in. */
static __always_inline __u64 plain_key6(const struct plain_frame6 *frame, __u32 handle_be)
{
	return handle_be | (__u64)LOAD(frame->port_be) << KEY_PORT_SHIFT |
	       (__u64)frame->next_header << KEY_PROTOCOL_SHIFT | 1ULL << KEY_IPV6_SHIFT;
}

/* ---- any other, header by header ---- */

/* Of one chain: a packet that needs more is dropped if it is for a VIP. Linux itself allows eight of each kind. */
enum extension_limit { EXTENSIONS_MAX = 8 };

struct fragment_header {
	__u8 next_header;
	__u8 reserved;
	__be16 offset_be; /* in bits 3-15; bit 0: more follow */
	__be32 identification_be;
};

/* Not in <linux/in6.h> for programs: RFC 8200 section 4, RFC 4302 */
enum extension {
	EXTENSION_HOP_BY_HOP = 0,
	EXTENSION_ROUTING = 43,
	EXTENSION_FRAGMENT = 44,
	EXTENSION_AUTHENTICATION = 51,
	EXTENSION_DESTINATION = 60
};

#define FRAGMENT6_OFFSET_BE bpf_htons(0xfff8)
#define FRAGMENT6_BITS_BE   bpf_htons(0xfff9)

/* Where a chain of headers is: at which octet of the frame, what comes there, and what the fragment header said. */
struct chain {
	__u32 at;
	__be32 identification_be;
	__u8 next_header;
	__u8 part; /* PART_ALL, PART_FIRST or PART_LATER */
	__u8 reserved[2];
};

/* No chain of EXTENSIONS_MAX headers is longer: a bound that the verifier sees wherever an octet is named. */
#define AT_MASK 0x7fff

#define REST_UNKNOWN 0xffffffffU

static __always_inline bool is_extension(__u32 header)
{
	return header == EXTENSION_HOP_BY_HOP || header == EXTENSION_ROUTING || header == EXTENSION_FRAGMENT ||
	       header == EXTENSION_AUTHENTICATION || header == EXTENSION_DESTINATION;
}

/* How many octets of a header follow its first eight. REST_UNKNOWN: the frame ends before those do. */
static __always_inline __u32 header_rest(__u32 kind, const struct fragment_header *header, const void *end)
{
	if ((const void *)(header + 1) > end)
		return REST_UNKNOWN;
	if (kind == EXTENSION_FRAGMENT)
		return 0;
	/* The second octet is the length without the first eight octets, in units of eight; of AH, of four. */
	return header->reserved * (kind == EXTENSION_AUTHENTICATION ? 4U : 8U);
}

/*
 * Walks over extension headers to the header that is none, or to a later fragment's data. Answers a fault. Not static:
 * the verifier then follows each way through the headers here alone, and not once more for each through all that comes
 * after. Octets are named by their number, because a pointer would be another one after each step.
 */
__noinline int walk_extensions(struct xdp_md *ctx, struct chain *chain)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u32 at, next;

	if (!chain)
		return FAULT_TRUNCATED;
	at = chain->at & AT_MASK;
	next = chain->next_header;
	for (int i = 0; i < EXTENSIONS_MAX && is_extension(next); i++) {
		/* The shortest has eight octets, as the fragment header always has. */
		const struct fragment_header *header = data + at;
		__u32 rest = header_rest(next, header, end);

		if (rest == REST_UNKNOWN)
			return FAULT_TRUNCATED;
		/* With neither offset nor more to come it is a whole packet (RFC 6946). */
		if (next == EXTENSION_FRAGMENT && header->offset_be & FRAGMENT6_BITS_BE) {
			chain->part = header->offset_be & FRAGMENT6_OFFSET_BE ? PART_LATER : PART_FIRST;
			chain->identification_be = header->identification_be;
		}
		next = header->next_header;
		at = (at + sizeof(*header) + rest) & AT_MASK;
		chain->at = at;
		chain->next_header = next;
		if (chain->part == PART_LATER)
			return FAULT_FRAGMENT;
	}
	return is_extension(next) ? FAULT_EXTENSIONS : FAULT_NONE;
}

/* As they are loaded. Not `in6_addr`'s words: the header is not aligned in the frame. */
static __always_inline struct address6 load_address6(const struct in6_addr *address)
{
	const struct address6 *words = (const void *)address;

	return (struct address6){LOAD(words->high), LOAD(words->low)};
}

static __always_inline bool same_address6(struct address6 a, struct address6 b)
{
	return !((a.high ^ b.high) | (a.low ^ b.low));
}

static __always_inline bool is_balanced_protocol(__u8 protocol)
{
	return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP;
}

/*
 * Reads an ICMPv6 error at octet `at` of the frame: it quotes the packet that it is about, which a backend has sent
 * from the VIP, as far as fits in 1,280 octets (RFC 4443 section 2.4 c). False: it is no error, or not one about a TCP
 * or UDP packet from this VIP. Not static, for the verifier's sake.
 */
__noinline int parse_icmp6_error(struct xdp_md *ctx, __u32 at, __u32 packet_end, struct packet *packet)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct cursor cursor = {.at = data + (at & AT_MASK), .end = end};
	struct chain chain = {.part = PART_ALL};
	struct address6 client;
	struct icmp6hdr *icmp;
	struct ipv6hdr *quoted;
	struct udphdr *ports;

	if (!packet || !take(&cursor, sizeof(*icmp), &icmp) || icmp->icmp6_type < ICMPV6_DEST_UNREACH ||
	    icmp->icmp6_type > ICMPV6_PARAMPROB || !take(&cursor, sizeof(*quoted), &quoted) || quoted->version != 6 ||
	    !same_address6(load_address6(&quoted->saddr), packet->vip6))
		return false;
	chain.next_header = quoted->nexthdr;
	chain.at = cursor.at - data;
	client = load_address6(&quoted->daddr);
	if (walk_extensions(ctx, &chain) != FAULT_NONE || !is_balanced_protocol(chain.next_header))
		return false;
	cursor.at = data + (chain.at & AT_MASK);
	/* Padding is no quote. */
	if (!take(&cursor, sizeof(*ports), &ports) || cursor.at - data > packet_end)
		return false;
	packet->protocol = chain.next_header;
	packet->source6 = client;
	packet->source_port_be = ports->dest;
	packet->port_be = ports->source;
	packet->part = PART_ERROR;
	return true;
}

/* Reads what follows the IPv6 header at octet `at` of the frame; the packet ends before octet `packet_end`. */
static __always_inline __u8 find_fault6(struct xdp_md *ctx, struct chain *chain, __u32 packet_end,
					struct packet *packet)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	__u8 fault = walk_extensions(ctx, chain);
	struct cursor cursor;

	packet->protocol = chain->next_header;
	packet->part = chain->part;
	packet->identification_be = chain->identification_be;
	/* Padding is no header. */
	if (fault == FAULT_TRUNCATED || chain->at > packet_end)
		return FAULT_TRUNCATED;
	/* What a later fragment says of the header that comes first does not count (RFC 8200 section 4.5). */
	if (fault != FAULT_NONE)
		return fault;
	if (chain->next_header == IPPROTO_ICMPV6 && chain->part == PART_ALL &&
	    parse_icmp6_error(ctx, chain->at, packet_end, packet))
		return FAULT_NONE;
	if (!is_balanced_protocol(chain->next_header))
		return FAULT_NOT_BALANCED;
	cursor.at = data + (chain->at & AT_MASK);
	cursor.end = end;
	return chain->at + transport_bytes(packet->protocol) <= packet_end && take_transport(&cursor, packet)
		   ? FAULT_NONE
		   : FAULT_TRUNCATED;
}

/*
 * Reads the IPv6 packet at octet `at` of the frame. False: there is no whole IPv6 header. Not static, for the
 * verifier's sake.
 */
__noinline int parse_ipv6(struct xdp_md *ctx, __u32 at, struct packet *packet)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct cursor cursor = {.at = data + (at & AT_MASK), .end = end};
	struct chain chain = {.part = PART_ALL};
	__u32 payload_bytes;
	struct ipv6hdr *ip;

	if (!packet || !take(&cursor, sizeof(*ip), &ip))
		return false;
	cursor.beyond = packet->frame_bytes - octets_left(&cursor, data);
	packet->is_ipv6 = true;
	packet->source6 = load_address6(&ip->saddr);
	packet->vip6 = load_address6(&ip->daddr);
	payload_bytes = bpf_ntohs(ip->payload_len);
	if (ip->version != 6 || payload_bytes > octets_left(&cursor, cursor.at)) {
		packet->fault = FAULT_MALFORMED;
		return true;
	}
	chain.next_header = ip->nexthdr;
	chain.at = cursor.at - data;
	packet->fault = find_fault6(ctx, &chain, chain.at + payload_bytes, packet);
	return true;
}

/* Reads a frame header by header; its size is known. False: there is neither an IPv4 nor an IPv6 header in it. */
static __always_inline bool parse_any(struct xdp_md *ctx, struct packet *packet)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct cursor cursor = {.at = data, .end = end};
	struct ethhdr *eth;
	__be16 protocol_be;

	packet->source_be = packet->vip_be = packet->identification_be = 0;
	packet->source_port_be = packet->port_be = 0;
	packet->tcp_flags = packet->is_ipv6 = packet->is_prefix = packet->tags = 0;
	packet->part = PART_ALL;
	cursor.beyond = packet->frame_bytes - octets_left(&cursor, data);
	if (!take(&cursor, sizeof(*eth), &eth))
		return false;
	protocol_be = skip_vlan_tags(&cursor, eth->h_proto, &packet->tags);
	if (protocol_be == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(ctx, cursor.at - data, packet);
	return protocol_be == bpf_htons(ETH_P_IP) && parse_ipv4(&cursor, packet);
}

#endif
