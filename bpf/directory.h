/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* Is this address a VIP, and which service is this? One cache line for most: the controller has placed every key. */
#ifndef XLB_DIRECTORY_H
#define XLB_DIRECTORY_H

#include "config.h"
#include "maps.h"
#include "parse.h"

static __always_inline struct root *root_now(void)
{
	struct root *now = &root[0];

	OPAQUE(now);
	return now;
}

/* The bucket in which an address stands if it is a VIP. `live` was read once: it tells half, multiplier and shift. */
static __always_inline const struct target_bucket *find_vip_bucket(__u64 live, __be32 address_be)
{
	__u64 place = address_be * live;

	/* The instruction takes the shift from the lowest six bits (RFC 9669 section 4.1), which C leaves undefined. */
	asm("%0 >>= %1" : "+r"(place) : "r"(live));
	return AT(vip_buckets, place + (live & CONSTANT(DIRECTORY_BUCKETS)));
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
	const struct target *target = bucket->target;

#pragma unroll
	for (int i = 0; i < TARGETS_PER_BUCKET; i++, target++)
		if (likely(*(const volatile __u64 *)&target->key == key))
			return target;
	return NULL;
}

/* Has this VIP no service but the one of target `vip`? */
static __always_inline bool is_only_target(const struct target_bucket *bucket, const struct target *vip)
{
	__u32 targets = 0;

	for (int i = 0; i < TARGETS_PER_BUCKET; i++)
		targets += bucket->target[i].key && (__u32)bucket->target[i].key == (__u32)vip->key;
	return targets == 1 && !(vip->flags & TARGET_MORE);
}

/* A service of a VIP that has more services than its bucket has room for, or NULL. */
static __always_inline const struct target *find_further_target(__u64 live, __u64 key)
{
	const struct directory *directory = &root_now()->directory[live & CONSTANT(DIRECTORY_BUCKETS) ? 1 : 0];
	const struct target_bucket *bucket;

	bucket = AT(service_buckets,
		    directory->service_base + (key * directory->service_multiplier >> directory->service_shift));
	return find_target(bucket, key);
}

#endif
