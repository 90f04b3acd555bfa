/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What has to become of a frame, read octet by octet from the rules alone: nothing of bpf/parse.h or bpf/fragment.h is
 * used. It remembers where first fragments went.
 */
#ifndef XLB_FUZZ_ORACLE_H
#define XLB_FUZZ_ORACLE_H

#include "tables.h"

enum kind { KIND_WHOLE, KIND_FIRST, KIND_LATER, KIND_ERROR };

/* A datagram's name, and where its first fragment went. */
struct note {
	__u32 source;
	__u32 destination;
	__u32 identification;
	__u32 protocol; /* of IPv4 */
	__u8 source6[16];
	__u8 destination6[16];
	__u32 service;
	int backend; /* its record, or -1: one that is down, or ANY_BACKEND */
	__u64 age;
};

/* The first fragment was dropped because its backend had sent it: which one that is, nothing tells. */
enum { ANY_BACKEND = -2 };

/* No more first fragments are in a row. */
enum notes_limit { NOTES_MAX = 64 };
static struct note notes[NOTES_MAX];
static __u32 notes_count;

struct wanted {
	/* Why it is not balanced, or REASONS where it goes to `service`. */
	enum reason reason;
	__u32 service;
	enum kind kind;
	__u64 vip;                /* as in struct fixture */
	__u32 protocol;           /* of a fragment, as it says itself */
	struct note name;         /* of a fragment: its datagram's */
	const struct note *note;  /* what a later fragment follows; NULL: nothing */
	bool may_be_lost;         /* that note may have given way to others */
	const __u8 *quoted;       /* what an ICMP error is about, */
	const __u8 *quoted_ports; /* and where its ports are */
};

static __u32 read_be16(const __u8 *at)
{
	return at[0] << 8 | at[1];
}

static __u32 read_be32(const __u8 *at)
{
	return read_be16(at) << 16 | read_be16(at + 2);
}

/* IEEE 802.1Q: a tag is four octets, and tells what follows it in its last two. Answers where the payload begins. */
static size_t find_payload(const __u8 *frame, size_t size, __u32 *type)
{
	size_t at = ETH_HLEN;

	*type = read_be16(frame + 12);
	for (int tags = 0; tags < 2 && (*type == 0x8100 || *type == 0x88a8); tags++) {
		if (size < at + 4) {
			*type = 0;
			return size;
		}
		*type = read_be16(frame + at + 2);
		at += 4;
	}
	return at;
}

static __u64 age_now(void)
{
	return host_jiffies >> HOST_AGE_SHIFT;
}

static struct note *find_note(const struct note *name)
{
	for (__u32 i = 0; i < notes_count; i++)
		if (notes[i].source == name->source && notes[i].destination == name->destination &&
		    notes[i].identification == name->identification && notes[i].protocol == name->protocol &&
		    !memcmp(notes[i].source6, name->source6, 16) &&
		    !memcmp(notes[i].destination6, name->destination6, 16))
			return &notes[i];
	return NULL;
}

/* A first fragment went to a backend of `service`. */
static void keep_note(struct note name, __u32 service, int backend)
{
	struct note *note = find_note(&name);

	if (!note)
		note = &notes[notes_count++];
	*note = name;
	note->service = service;
	note->backend = backend;
	note->age = age_now();
}

/* Of a destination: the VIP, or the longest prefix that it is in. 0: none. */
static __u64 vip_of(__u32 destination)
{
	if (destination >= VIP_A && destination <= VIP_H)
		return destination;
	if (destination >> 8 == 0xc61205)
		return PREFIX_G;
	return destination >> 16 == 0xc612 ? PREFIX_F : 0;
}

/* Is all between two addresses for this VIP and protocol one service's, which asks for no port? Which? */
static struct wanted want_by_source(struct wanted wanted)
{
	const struct fixture *only = NULL;

	wanted.reason = DROP_FRAGMENT;
	for (__u32 i = 0; i < SERVICES; i++) {
		if (fixtures[i].vip != wanted.vip)
			continue;
		if (only)
			return wanted;
		only = &fixtures[i];
		wanted.service = i;
	}
	if (only->protocol == wanted.protocol && only->hash_bits != HASHED_SOURCE_PORT &&
	    !(only->flags & (SERVICE_TRACKED | SERVICE_MARKED)))
		wanted.reason = REASONS;
	return wanted;
}

/*
 * A note counts for FRAGMENT_TIMEOUT units of age. Ages have 12 bits: after 4,096 units an old one looks young again,
 * unless others took its place. As long as there are no more than a bucket has places, none has to give way.
 */
static struct wanted want_later(struct wanted wanted)
{
	const struct note *note = find_note(&wanted.name);
	__u64 idle = note ? age_now() - note->age : 0;

	wanted.kind = KIND_LATER;
	if (!note || (idle & 0xfff) > FRAGMENT_TIMEOUT)
		return want_by_source(wanted);
	wanted.note = note;
	wanted.may_be_lost = notes_count > FLOWS_PER_BUCKET || idle > FRAGMENT_TIMEOUT;
	wanted.reason = REASONS;
	wanted.service = note->service;
	return wanted;
}

static struct wanted want_service(struct wanted wanted, __u32 protocol, __u32 port)
{
	__u32 fewest = 0x10000;

	/* A service of the port alone, else of a range, else of every port: the fewer ports, the nearer. */
	wanted.reason = PASS_NO_SERVICE;
	for (__u32 i = 0; i < SERVICES; i++) {
		const struct fixture *fixture = &fixtures[i];
		__u32 last = fixture->last_port ? fixture->last_port : fixture->port, ports = last - fixture->port;

		if (fixture->vip != wanted.vip || fixture->protocol != protocol || port < fixture->port ||
		    port > last || ports >= fewest)
			continue;
		fewest = ports;
		wanted.reason = REASONS;
		wanted.service = i;
	}
	return wanted;
}

/*
 * RFC 792: an error is type 3, 11 or 12, and quotes after eight octets the datagram that it is about: its header, and
 * eight octets of what follows. A backend has sent that from the VIP.
 */
static struct wanted want_error(const __u8 *icmp, size_t size, __u32 destination)
{
	const __u8 *quoted = icmp + 8;
	size_t header;

	if (size < 8 + 20 || (icmp[0] != 3 && icmp[0] != 11 && icmp[0] != 12))
		return (struct wanted){.reason = PASS_NOT_BALANCED};
	header = (quoted[0] & 0xf) * 4;
	if (quoted[0] >> 4 != 4 || header < 20 || size < 8 + header + 8 || read_be16(quoted + 6) & 0x1fff ||
	    read_be32(quoted + 12) != destination || (quoted[9] != 6 && quoted[9] != 17))
		return (struct wanted){.reason = PASS_NOT_BALANCED};
	return want_service(
	    (struct wanted){
		.kind = KIND_ERROR, .quoted = quoted, .quoted_ports = quoted + header, .vip = vip_of(destination)},
	    quoted[9], read_be16(quoted + header));
}

static struct wanted want_for_vip(const __u8 *ip, size_t size, __u32 destination)
{
	size_t header = (ip[0] & 0xf) * 4, total = read_be16(ip + 2), transport;
	__u32 fragment = read_be16(ip + 6) & 0x3fff;
	__u8 protocol = ip[9];
	struct wanted wanted = {.vip = vip_of(destination),
				.protocol = protocol,
				.name = {.source = read_be32(ip + 12),
					 .destination = destination,
					 .identification = read_be16(ip + 4),
					 .protocol = protocol}};

	if (ip[0] >> 4 != 4 || header < 20 || total < header || total > size)
		return (struct wanted){.reason = DROP_MALFORMED};
	transport = total - header;
	if (protocol == 1 && !fragment)
		return want_error(ip + header, transport, destination);
	if (protocol != 6 && protocol != 17)
		return (struct wanted){.reason = PASS_NOT_BALANCED};
	if (fragment & 0x1fff)
		return want_later(wanted);
	if (transport < (protocol == 6 ? 20 : 8))
		return (struct wanted){.reason = DROP_TRUNCATED};
	wanted.kind = fragment ? KIND_FIRST : KIND_WHOLE;
	return want_service(wanted, protocol, read_be16(ip + header + 2));
}

/*
 * Of a service that this host is a backend of: does another backend send this, as a director? (This host's own record,
 * and those of backends that are down, have no MAC, and so has a frame from 00:00:00:00:00:00 none.)
 */
static bool is_from_peer(const __u8 *frame, __u32 service)
{
	static const __u8 no_mac[ETH_ALEN];

	if (!(fixtures[service].flags & SERVICE_LOCAL))
		return false;
	for (__u32 i = 0; i < fixtures[service].backends; i++) {
		__u8 mac[ETH_ALEN];

		backend_mac(service * BACKENDS_PER_SERVICE + i, mac);
		if (!memcmp(frame + ETH_ALEN, has_mac(reach_of(service, i)) ? mac : no_mac, ETH_ALEN))
			return true;
	}
	return false;
}

/* Is it of a backend of the service? */
static bool is_from_backend(const __u8 *frame, __u32 service)
{
	for (__u32 i = 0; i < fixtures[service].backends; i++) {
		__u8 mac[ETH_ALEN];

		backend_mac(service * BACKENDS_PER_SERVICE + i, mac);
		if (has_mac(reach_of(service, i)) && !memcmp(frame + ETH_ALEN, mac, ETH_ALEN))
			return true;
	}
	return false;
}

static bool is_denied(const struct list *list, __u32 source)
{
	return (source >= list->first && (!list->behind || source < list->behind)) != list->turned;
}

/* Does a filter deny a client? Else REASONS. */
static enum reason refused(__u32 service, __u32 client)
{
	const struct fixture *fixture = &fixtures[service];

	if (!(fixture->flags & (SERVICE_POLICY | SERVICE_FILTERED)))
		return REASONS;
	if (is_denied(&lists[LIST_OF_ALL], client))
		return DROP_DENIED_GLOBAL;
	return own_list(fixture) && is_denied(&lists[own_list(fixture)], client) ? DROP_DENIED : REASONS;
}

#endif
