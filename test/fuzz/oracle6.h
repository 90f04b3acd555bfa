/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* As oracle.h, of IPv6: read octet by octet from RFC 8200 and RFC 4443. And what is wanted of any frame. */
#ifndef XLB_FUZZ_ORACLE6_H
#define XLB_FUZZ_ORACLE6_H

#include "oracle.h"

enum { IP6_BYTES = 40, EXTENSIONS_WALKED = 8 };

static const __u8 in_prefix_p[8] = {0x20, 0x01, 0x0d, 0xb8, 0, 5, 0, 0};
static const __u8 vip6_q[16] = {0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10};

/* As vip_of. */
static __u64 vip6_of(const __u8 *destination)
{
	if (!memcmp(destination, vip6_q, sizeof(vip6_q)))
		return VIP6_Q;
	return memcmp(destination, in_prefix_p, sizeof(in_prefix_p)) ? 0 : PREFIX6_P;
}

/* Headers behind the first, up to one that is no extension. */
struct headers {
	size_t at; /* in the frame, of what comes next */
	__u32 identification;
	__u8 next;
	enum kind kind; /* KIND_WHOLE, KIND_FIRST, KIND_LATER */
	bool cut_off;
	bool too_many;
};

static bool is_extension_header(__u8 next)
{
	return next == 0 || next == 43 || next == 44 || next == 51 || next == 60;
}

/* @param size the frame's: what extension headers say of themselves may be padding */
static struct headers walk_headers(const __u8 *frame, size_t size, size_t at, __u8 next)
{
	struct headers headers = {.at = at, .next = next, .kind = KIND_WHOLE};

	for (int i = 0; i < EXTENSIONS_WALKED && is_extension_header(headers.next); i++) {
		const __u8 *header = frame + headers.at;
		size_t rest;

		if (size < headers.at + 8) {
			headers.cut_off = true;
			return headers;
		}
		rest = headers.next == 44 ? 0 : header[1] * (headers.next == 51 ? 4 : 8);
		/* Bits 0-12 are the offset, the last one says that more follow. */
		if (headers.next == 44 && read_be16(header + 2) & 0xfff9) {
			headers.kind = read_be16(header + 2) & 0xfff8 ? KIND_LATER : KIND_FIRST;
			headers.identification = read_be32(header + 4);
		}
		headers.next = header[0];
		headers.at += 8 + rest;
		if (headers.kind == KIND_LATER)
			return headers;
	}
	headers.too_many = is_extension_header(headers.next);
	return headers;
}

/* Of a later fragment whose first one is not known. Of IPv6 it says whose it is, unless further headers follow. */
static struct wanted want_without_note(struct wanted wanted)
{
	__u32 protocol = wanted.protocol;

	wanted = want_by_source(wanted);
	if (wanted.reason == DROP_FRAGMENT && protocol != 6 && protocol != 17 && !is_extension_header(protocol))
		wanted.reason = PASS_NOT_BALANCED;
	return wanted;
}

/* Of a later fragment. Its first one's word about the protocol counts, and that is the note's. */
static struct wanted want_later6(struct wanted wanted)
{
	wanted = want_later(wanted);
	return wanted.note ? wanted : want_without_note(wanted);
}

/* An error is of type 1 to 4, and quotes after eight octets the packet that it is about, with eight octets of TCP or
 * UDP. */
static struct wanted want_error6(const __u8 *frame, size_t size, size_t icmp, size_t packet_end,
				 const __u8 *destination)
{
	const __u8 *quoted = frame + icmp + 8;
	struct headers headers;

	if (size < icmp + 8 + IP6_BYTES || frame[icmp] < 1 || frame[icmp] > 4 || quoted[0] >> 4 != 6 ||
	    memcmp(quoted + 8, destination, 16))
		return (struct wanted){.reason = PASS_NOT_BALANCED};
	headers = walk_headers(frame, size, icmp + 8 + IP6_BYTES, quoted[6]);
	if (headers.cut_off || headers.too_many || headers.kind == KIND_LATER ||
	    (headers.next != 6 && headers.next != 17) || size < headers.at + 8 || headers.at + 8 > packet_end)
		return (struct wanted){.reason = PASS_NOT_BALANCED};
	return want_service(
	    (struct wanted){
		.kind = KIND_ERROR, .quoted = quoted, .quoted_ports = frame + headers.at, .vip = vip6_of(destination)},
	    headers.next, read_be16(frame + headers.at));
}

/* Of a frame that has 40 octets behind its tags. */
static struct wanted want6(const __u8 *frame, size_t size, size_t at)
{
	const __u8 *ip = frame + at;
	size_t packet_end = at + IP6_BYTES + read_be16(ip + 4);
	struct wanted wanted = {.vip = vip6_of(ip + 24)};
	struct headers headers;

	if (!wanted.vip)
		return (struct wanted){.reason = PASS_NOT_VIP};
	if (ip[0] >> 4 != 6 || packet_end > size)
		return (struct wanted){.reason = DROP_MALFORMED};
	headers = walk_headers(frame, size, at + IP6_BYTES, ip[6]);
	if (headers.cut_off || headers.at > packet_end)
		return (struct wanted){.reason = DROP_TRUNCATED};
	memcpy(wanted.name.source6, ip + 8, 16);
	memcpy(wanted.name.destination6, ip + 24, 16);
	wanted.name.identification = headers.identification;
	wanted.protocol = headers.next;
	if (headers.kind == KIND_LATER)
		return want_later6(wanted);
	if (headers.too_many)
		return (struct wanted){.reason = DROP_EXTENSIONS};
	if (headers.next == 58 && headers.kind == KIND_WHOLE)
		return want_error6(frame, size, headers.at, packet_end, ip + 24);
	if (headers.next != 6 && headers.next != 17)
		return (struct wanted){.reason = PASS_NOT_BALANCED};
	if (headers.at + (headers.next == 6 ? 20 : 8) > packet_end)
		return (struct wanted){.reason = DROP_TRUNCATED};
	wanted.kind = headers.kind;
	return want_service(wanted, headers.next, read_be16(frame + headers.at + 2));
}

/* Of a frame of 14 octets at least: the kernel hands on none that is shorter. */
static struct wanted want(const __u8 *frame, size_t size)
{
	struct wanted wanted;
	__u32 type, destination;
	size_t at;

	if (memcmp(frame, own_mac, ETH_ALEN))
		return (struct wanted){.reason = PASS_OTHER_MAC};
	at = find_payload(frame, size, &type);
	if (type == 0x86dd && size >= at + IP6_BYTES) {
		wanted = want6(frame, size, at);
		if (wanted.reason == REASONS && is_from_peer(frame, wanted.service))
			wanted.reason = PASS_FROM_PEER;
		return wanted;
	}
	if (type != 0x0800 || size < at + 20)
		return (struct wanted){.reason = PASS_NOT_IP};
	destination = read_be32(frame + at + 16);
	if (!vip_of(destination))
		return (struct wanted){.reason = PASS_NOT_VIP};
	wanted = want_for_vip(frame + at, size - at, destination);
	if (wanted.reason == REASONS && is_from_peer(frame, wanted.service))
		wanted.reason = PASS_FROM_PEER;
	if (wanted.reason == REASONS)
		wanted.reason = refused(wanted.service, wanted.kind == KIND_ERROR ? read_be32(wanted.quoted + 16)
										  : read_be32(frame + at + 12));
	return wanted;
}

#endif
