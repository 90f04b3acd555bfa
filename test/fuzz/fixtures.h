/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Which services and filters there are: every kind. tables.h writes them as a controller would. */
#ifndef XLB_FUZZ_FIXTURES_H
#define XLB_FUZZ_FIXTURES_H

#include "packetpath.h"

enum {
	VIP_A = 0xc000020a, /* 192.0.2.10 */
	VIP_B = 0xc000020b,
	VIP_C = 0xc000020c, /* this one and the next have one service each */
	VIP_D = 0xc000020d,
	VIP_E = 0xc000020e, /* of this one a packet finds every port */
	VIP_H = 0xc000020f, /* whose services do not hear everybody */
};

/* As the directory has them, with bit 32, by which they are no VIP: 198.18.0.0/16, and in that 198.18.5.0/24. */
#define PREFIX_F (1ULL << 32 | 0xc6128000)
#define PREFIX_G (1ULL << 32 | 0xc6120580)

/*
 * With bit 33, of IPv6: 2001:db8:5::/64, and 2001:db8::10, a VIP. What else they have is where they stand in
 * vip6_addresses.
 */
#define PREFIX6_P (1ULL << 33 | 0)
#define VIP6_Q    (1ULL << 33 | 1)

static const struct {
	__u8 number[16];
	bool is_prefix;
} vip6_addresses[] = {
    {{0x20, 0x01, 0x0d, 0xb8, 0, 5, 0, 0, 0x80}, true},
    {{0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10}, false},
};

struct fixture {
	__u64 vip;
	__u16 port;
	__u8 protocol;
	__u16 flags;    /* enum service_flag */
	__u8 further;   /* stands in service_buckets: its VIP has more services than a bucket has room for */
	__u8 hash_bits; /* enum hashed_bits; 0: the destination is hashed */
	__u8 backends;
	__u16 last_port; /* of a range, or of every port (from 0); 0: of one port */
};

static const struct fixture fixtures[] = {
    {VIP_A, 80, IPPROTO_TCP, 0, 0, HASHED_SOURCE, 6, 0},
    {VIP_A, 443, IPPROTO_TCP, SERVICE_TRACKED | SERVICE_PERSISTENT, 0, HASHED_SOURCE_PORT, 6, 0},
    {VIP_A, 53, IPPROTO_UDP, SERVICE_UDP | SERVICE_TRACKED, 0, HASHED_SOURCE_PORT, 6, 0},
    {VIP_A, 5060, IPPROTO_UDP, SERVICE_UDP | SERVICE_LOCAL, 0, HASHED_SOURCE, 6, 0},
    {VIP_B, 80, IPPROTO_TCP, SERVICE_MARKED, 0, HASHED_SOURCE_PORT, 6, 0},
    {VIP_B, 53, IPPROTO_UDP, SERVICE_UDP | SERVICE_MARKED | SERVICE_BEFORE_HASH_PORT, 0, HASHED_SOURCE_PORT, 6, 0},
    {VIP_B, 443, IPPROTO_TCP, SERVICE_TRACKED | SERVICE_MARKED | SERVICE_LOCAL, 0, HASHED_SOURCE_PORT, 6, 0},
    {VIP_B, 8080, IPPROTO_TCP, 0, 1, HASHED_SOURCE_PORT, 6, 0},
    {VIP_B, 8081, IPPROTO_UDP, SERVICE_UDP | SERVICE_MARKED, 1, HASHED_SOURCE, 6, 0},
    {VIP_B, 9, IPPROTO_TCP, SERVICE_TRACKED, 1, HASHED_SOURCE, 0, 0},
    {VIP_C, 80, IPPROTO_TCP, SERVICE_LOCAL, 0, HASHED_SOURCE, 6, 0},
    {VIP_D, 5353, IPPROTO_UDP, SERVICE_UDP | SERVICE_TRACKED | SERVICE_PERSISTENT, 0, HASHED_SOURCE, 6, 0},
    {VIP_E, 80, IPPROTO_TCP, 0, 0, HASHED_SOURCE_PORT, 6, 0},
    {VIP_E, 8000, IPPROTO_TCP, SERVICE_TRACKED | SERVICE_PERSISTENT | SERVICE_BY_RING, 0, HASHED_SOURCE_PORT, 6, 8099},
    {VIP_E, 0, IPPROTO_TCP, SERVICE_MARKED, 0, HASHED_SOURCE, 6, 65535},
    {VIP_E, 0, IPPROTO_UDP, SERVICE_UDP | SERVICE_TRACKED | SERVICE_OPS, 0, HASHED_SOURCE, 6, 65535},
    {PREFIX_F, 80, IPPROTO_TCP, 0, 0, 0, 6, 0},
    {PREFIX_F, 0, IPPROTO_UDP, SERVICE_UDP | SERVICE_LOCAL, 0, HASHED_SOURCE_PORT, 6, 65535},
    {PREFIX_F, 81, IPPROTO_TCP, SERVICE_LOCAL, 0, HASHED_SOURCE, 6, 0},
    {PREFIX_G, 53, IPPROTO_UDP, SERVICE_UDP, 0, 0, 6, 0},
    {VIP_H, 80, IPPROTO_TCP, SERVICE_POLICY, 0, HASHED_SOURCE_PORT, 6, 0},
    {VIP_H, 443, IPPROTO_TCP, SERVICE_TRACKED | SERVICE_POLICY | SERVICE_FILTERED, 0, HASHED_SOURCE_PORT, 6, 0},
    {VIP_H, 53, IPPROTO_UDP, SERVICE_UDP | SERVICE_TRACKED | SERVICE_POLICY, 0, HASHED_SOURCE_PORT, 6, 0},
    {VIP_H, 54, IPPROTO_UDP, SERVICE_UDP | SERVICE_FILTERED, 0, HASHED_SOURCE, 6, 0},
    {PREFIX_G, 80, IPPROTO_TCP, SERVICE_TRACKED, 0, 0, 6, 0},
    {PREFIX_G, 81, IPPROTO_TCP, SERVICE_MARKED | SERVICE_BEFORE_HASH_PORT, 0, 0, 6, 0},
    {PREFIX_G, 8080, IPPROTO_TCP, SERVICE_TRACKED, 0, 0, 6, 0},
    {PREFIX_F, 443, IPPROTO_TCP, SERVICE_TRACKED, 0, 0, 6, 0},
    {PREFIX6_P, 80, IPPROTO_TCP, 0, 0, 0, 6, 0},
    {PREFIX6_P, 443, IPPROTO_TCP, SERVICE_TRACKED, 0, 0, 6, 0},
    {PREFIX6_P, 0, IPPROTO_UDP, SERVICE_UDP | SERVICE_TRACKED, 0, HASHED_SOURCE_PORT, 6, 65535},
    {VIP6_Q, 80, IPPROTO_TCP, 0, 0, HASHED_SOURCE, 6, 0},
};

/* Three remember destinations, the others take turns. */
static enum choice choice_of(__u32 service)
{
	const struct fixture *fixture = &fixtures[service];

	if (fixture->vip == PREFIX_G && fixture->port == 8080)
		return CHOICE_LBLCR;
	return (fixture->vip == PREFIX_F || fixture->vip == PREFIX6_P) && fixture->port == 443 ? CHOICE_LBLC
											       : CHOICE_TURN;
}

/* Each denies what lies between two addresses, or, where `turned`, what does not. */
struct list {
	__u32 first;
	__u32 behind; /* 0: the list goes on to the highest */
	__u8 turned;
	__u8 has_rate;
};

enum { LIST_OF_ALL = 3 };

static const struct list lists[] = {
    [1] = {0xcb007108, 0xcb00710b, 0, 0}, /* 203.0.113.8 and the next two */
    [2] = {0xc0000000, 0, 1, 1},          /* all below 192.0.0.0; and a rate */
    [LIST_OF_ALL] = {0xcb007105, 0xcb007106, 0, 0},
};

/* A service's own; 0: none. */
static __u32 own_list(const struct fixture *fixture)
{
	return !(fixture->flags & SERVICE_POLICY) ? 0 : fixture->port == 80 ? 1 : 2;
}

enum { SERVICES = sizeof(fixtures) / sizeof(fixtures[0]) };

#endif
