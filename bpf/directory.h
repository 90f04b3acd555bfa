/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Is this address a VIP, and which service is this? One cache line for most: the controller has placed every key. */
#ifndef XLB_DIRECTORY_H
#define XLB_DIRECTORY_H

#include "config.h"
#include "maps.h"
#include "parse.h"

/* Which directory packets use now, and how its VIPs are found: one word, so that one store switches both. */
static __always_inline __u64 live_directory(void)
{
	struct root *now = &root[0];

	OPAQUE(now);
	return now->live;
}

/* The bucket in which an address stands if it is a VIP. */
static __always_inline const struct target_bucket *find_vip_bucket(__u64 live, __be32 address_be)
{
	__u64 place = address_be * vip_multiplier >> (live >> LIVE_SHIFT_SHIFT & 0xff) & live >> LIVE_MASK_SHIFT;

	return AT(vip_buckets, (live & LIVE_BASE_MASK) + place);
}

/* The first target of this VIP in its bucket, or NULL: the address is none. */
static __always_inline const struct target *find_vip(const struct target_bucket *bucket, __be32 address_be)
{
#pragma unroll
	for (int i = 0; i < TARGETS_PER_BUCKET; i++)
		if ((__u32)bucket->target[i].key == address_be)
			/* 0.0.0.0 is the address of a free place too. */
			return bucket->target[i].key ? &bucket->target[i] : NULL;
	return NULL;
}

static __always_inline const struct target *find_target(const struct target_bucket *bucket, __u64 key)
{
#pragma unroll
	for (int i = 0; i < TARGETS_PER_BUCKET; i++)
		if (bucket->target[i].key == key)
			return &bucket->target[i];
	return NULL;
}

static __always_inline __u64 service_key(const struct packet *packet)
{
	return packet->vip_be | (__u64)packet->port_be << KEY_PORT_SHIFT |
	       (__u64)packet->protocol << KEY_PROTOCOL_SHIFT;
}

/* A service of a VIP that has more services than its bucket has room for, or NULL. */
static __always_inline const struct target *find_further_target(__u64 live, __u64 key)
{
	struct root *now = &root[0];
	const struct directory *directory;
	const struct target_bucket *bucket;

	OPAQUE(now);
	directory = &now->directory[live & LIVE_BASE_MASK ? 1 : 0];
	bucket = AT(service_buckets,
		    directory->service_base + (key * directory->service_multiplier >> directory->service_shift));
	return bucket ? find_target(bucket, key) : NULL;
}

#endif
