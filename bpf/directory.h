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

#define FOLD_FACTOR 0xffffffff9e3779b1ULL

/* Both halves of an IPv6 address in one word, by which it is placed. */
static __always_inline __u64 fold_address6(struct address6 address)
{
	return address.low + address.high * FOLD_FACTOR;
}

/* The directory that packets use. */
static __always_inline const struct directory *directory_of(__u64 live)
{
	return &root_now()->directory[live & CONSTANT(DIRECTORY_BUCKETS) ? 1 : 0];
}

static __always_inline const struct directory *directory_now(void)
{
	return directory_of(LOAD(root_now()->live));
}

/* The bucket in which an address stands if it is a VIP. `live` was read once: it tells half, multiplier and shift. */
static __always_inline struct target_bucket *find_vip_bucket(__u64 live, __be32 address_be)
{
	__u64 place = address_be * live;

	SHIFT_RIGHT(place, live); /* by its lowest six bits */
	return AT(vip_buckets, place + (live & CONSTANT(DIRECTORY_BUCKETS)));
}

/*
 * The handle by which the directory knows an IPv6 VIP. 0: the address is none. `live` is root.live, read once;
 * `address` is a struct address6, however it is aligned: its halves are loaded where they are needed, as registers are
 * few. The place is that of fold_address6's word times the directory's: multiplied out, so that no product of the
 * packet's waits for another.
 */
static __always_inline __u32 find_vip6(__u64 live, const void *address)
{
	const struct address6 *own = address;
	__u64 word = LOAD(directory_of(live)->vip6), folded = word * FOLD_FACTOR, place;
	const struct vip6_bucket *bucket;

	OPAQUE(folded); /* or clang would take the common factor out again */
	place = LOAD(own->low) * word + LOAD(own->high) * folded;
	SHIFT_RIGHT(place, word);
	place += word & CONSTANT(DIRECTORY_BUCKETS);
	APPLY_CONSTANT(place, &=, MASK_vip6_buckets);
	bucket = AT(vip6_buckets, place);
#pragma unroll
	for (int i = 0; i < VIP6_PER_BUCKET; i++)
		if (bucket->vip[i].low == LOAD(own->low) && bucket->vip[i].high == LOAD(own->high))
			return (place * VIP6_PER_BUCKET + i + 1) << HANDLE_SHIFT;
	return 0;
}

/* May this IPv4 address be a VIP? If so, find_vip knows: a handle or a prefix may have the same 32 bits. */
static __always_inline bool may_be_vip(const struct target_bucket *bucket, __be32 address_be)
{
#pragma unroll
	for (int i = 0; i < TARGETS_PER_BUCKET; i++)
		if ((__u32)bucket->target[i].key == address_be)
			/* 0.0.0.0 is the address of a free place too. */
			return bucket->target[i].key;
	return false;
}

/* What of a key says which VIP or prefix it is of. */
#define KEY_VIP_MASK (1ULL << KEY_IPV6_SHIFT | 1ULL << KEY_PREFIX_SHIFT | 0xffffffffULL)

/* The first target of the VIP or prefix that a key is of, in its bucket, or NULL: it has none. */
static __always_inline const struct target *find_vip(const struct target_bucket *bucket, __u64 key)
{
#pragma unroll
	for (int i = 0; i < TARGETS_PER_BUCKET; i++)
		if (!((bucket->target[i].key ^ key) & KEY_VIP_MASK))
			/* 0.0.0.0 is the address of a free place too. */
			return bucket->target[i].key ? &bucket->target[i] : NULL;
	return NULL;
}

/*
 * The longest prefix that holds an address, as keys have it; 0: none does. It decides by itself: where it has no
 * service of a packet's port, no shorter one is asked. `live` was read once.
 */
__noinline __u64 find_prefix(__u64 live, __u32 address_be)
{
	const struct directory *directory = &root_now()->directory[live & CONSTANT(DIRECTORY_BUCKETS) ? 1 : 0];
	__u32 lengths = LOAD(directory->prefixes), address = bpf_ntohl(address_be);

	for (int i = PREFIX_BITS_MIN; i <= PREFIX_BITS_MAX && lengths; i++) {
		__u32 behind = lengths & -lengths; /* the lowest: of the longest */
		__u64 key = bpf_htonl((address & -(behind << 1)) | behind);

		key |= 1ULL << KEY_PREFIX_SHIFT;
		if (find_vip(find_vip_bucket(live, key), key))
			return key;
		lengths ^= behind;
	}
	return 0;
}

/*
 * The key of a prefix of IPv6, whose number is given as the numbers of its halves; 0: it has no service. Not inlined:
 * the verifier proves it once, and not for each length.
 */
__noinline __u64 find_prefix6_number(__u64 live, __u64 high, __u64 low)
{
	struct address6 number = {bpf_cpu_to_be64(high), bpf_cpu_to_be64(low)};
	__u64 key = find_vip6(live, &number);

	if (!key)
		return 0;
	key |= 1ULL << KEY_PREFIX_SHIFT | 1ULL << KEY_IPV6_SHIFT;
	/* Or it is the number of a VIP alone. */
	return find_vip(find_vip_bucket(live, key), key) ? key : 0;
}

/* As find_prefix, of an IPv6 address, whose halves are given as numbers. */
__noinline __u64 find_prefix6(__u64 live, __u64 high, __u64 low)
{
	const struct directory *directory = &root_now()->directory[live & CONSTANT(DIRECTORY_BUCKETS) ? 1 : 0];
	__u64 highs = LOAD(directory->prefixes6_high), lows = LOAD(directory->prefixes6_low), key = 0;

	for (int i = PREFIX6_BITS_MIN; i <= PREFIX6_BITS_MAX && (highs | lows) && !key; i++) {
		__u64 behind = lows ? lows & -lows : highs & -highs; /* of the longest */

		if (lows) {
			key = find_prefix6_number(live, high, (low & -(behind << 1)) | behind);
			lows ^= behind;
		} else {
			key = find_prefix6_number(live, (high & -(behind << 1)) | behind, 0);
			highs ^= behind;
		}
	}
	return key;
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
		targets += bucket->target[i].key && !((bucket->target[i].key ^ vip->key) & KEY_VIP_MASK);
	return targets == 1 && !(vip->flags & TARGET_MORE);
}

/* ---- what is for a VIP, and for no port in its bucket ---- */

/* The target of a key, in the second table of the directory that `vip` belongs to, or NULL. */
static __always_inline const struct target *find_in_second(const struct target *vip, __u64 key)
{
	const struct directory *directory = &root_now()->directory[vip->flags & TARGET_DIRECTORY_1 ? 1 : 0];
	const struct target_bucket *bucket;

	bucket = AT(service_buckets,
		    directory->service_base + (key * directory->service_multiplier >> directory->service_shift));
	return find_target(bucket, key);
}

/* The target of a key, wherever it stands, or NULL. */
static __always_inline const struct target *find_anywhere(const struct target_bucket *bucket, const struct target *vip,
							  __u64 key)
{
	const struct target *target = find_target(bucket, key);

	return target || !(vip->flags & TARGET_MORE) ? target : find_in_second(vip, key);
}

/*
 * The range that a port (host order) lies in, or NULL. It can be but the first that does not end before the port, found
 * by halving the run. Whether a step is taken is computed, not branched on: the processor could not foresee it.
 */
static __always_inline const struct target *find_range(const struct run *run, __u64 port)
{
	__u64 first = run->first, count = run->count, passed = 0;
	const struct target *range;

#pragma unroll
	for (__u64 step = RANGES_PER_RUN_MAX / 2; step; step /= 2) {
		__u64 next = passed + step, taken;

		if (step >= count)
			continue;
		range = AT(range_targets, first + next - 1);
		taken = (range->last_port - port) & (next - count); /* negative: both are */
		taken = (__s64)taken >> 63;
		OPAQUE(taken);
		passed += taken & step;
	}
	range = AT(range_targets, first + passed);
	return port >= bpf_ntohs(range->key >> KEY_PORT_SHIFT) && port <= range->last_port ? range : NULL;
}

/* In the second table, or of a range, or of every port, in this order. `vip` is any target of the VIP in its bucket. */
static __always_inline const struct target *further_target(const struct target_bucket *bucket, const struct target *vip,
							   __u64 key)
{
	const __u64 port_mask = 0xffffULL << KEY_PORT_SHIFT;
	const struct target *target = NULL;

	if (vip->flags & TARGET_MORE)
		target = find_in_second(vip, key);
	if (!target && vip->flags & TARGET_RANGES) {
		target = find_anywhere(bucket, vip, (key & ~port_mask) | 1ULL << KEY_RUN_SHIFT);
		if (target)
			target = find_range((const struct run *)target, bpf_ntohs(key >> KEY_PORT_SHIFT));
	}
	if (!target && vip->flags & TARGET_EVERY_PORT)
		target = find_anywhere(bucket, vip, key & ~port_mask);
	return target;
}

/*
 * Finds the target of a packet for a VIP that its bucket has no target of. False: no service has this port. Not static:
 * the verifier then proves it once, where it would else follow what comes after for each table that a target may be in.
 * So it answers a copy: the service, and what is hashed.
 */
__noinline int find_further_target(struct target_bucket *bucket, __u64 key, struct target *found)
{
	const struct target *vip, *target;

	if (!bucket || !found)
		return false;
	vip = find_vip(bucket, key);
	target = vip ? further_target(bucket, vip, key) : NULL;
	if (!target)
		return false;
	found->ring_seed = target->ring_seed;
	found->hash_mask = target->hash_mask;
	found->service = LOAD(target->service);
	return true;
}

#endif
