/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The one hash. src/core/hash.ts computes the same; test/packet compares the two. */
#ifndef XLB_HASH_H
#define XLB_HASH_H

#include <linux/types.h>

/*
 * Mixes a 64-bit word under a secret 64-bit seed: multiplied by the seed (which makes whoever does not know it unable
 * to aim at one bucket or one slot), the upper half folded into the lower, multiplied by an odd constant that fits an
 * instruction. The seed is odd: so it is a bijection. The upper half is the better one.
 */
static inline __attribute__((always_inline)) __u64 hash_mix(__u64 word, __u64 seed)
{
	word += seed;
	word *= seed;
	word ^= word >> 32;
	word *= 0xffffffff9e3779b1ULL;
	return word;
}

/* Both halves of an IPv6 address in one word. For one seed and one upper half it is a bijection of the lower. */
static inline __attribute__((always_inline)) __u64 hash_address6(__u64 high, __u64 low, __u64 seed)
{
	return hash_mix(low, seed) + high;
}

/*
 * Both addresses of an IPv6 flow, and a third word, in one. The two addresses do not wait for each other, and are not
 * the same when they change places: that of the source is mixed once more.
 */
static inline __attribute__((always_inline)) __u64 hash_addresses6(__u64 source, __u64 destination, __u64 more,
								   __u64 seed)
{
	return hash_mix(hash_mix(source + more, seed) + destination, seed);
}

/*
 * As hash_mix, of an IPv6 address and a third word. An address takes no longer than a single word once the seed is
 * known, because the two products do not wait for each other. The product of two words that have each a secret added is
 * the hash of UMAC (RFC 4418 section 5.2.2, NH): without the seed nobody can tell which addresses share a hash, nor, as
 * the third word is multiplied by the seed, which of them do so with another port. For one seed and one upper half it
 * is a bijection of the lower.
 */
static inline __attribute__((always_inline)) __u64 hash_source6(__u64 high, __u64 low, __u64 more, __u64 seed)
{
	__u64 word = (low + seed) * ((high + seed) | 1) + more * seed;

	word ^= word >> 32;
	word *= 0xffffffff9e3779b1ULL;
	return word;
}

/* Spreads the upper half of a hash evenly over `size` places, without a division. */
static inline __attribute__((always_inline)) __u32 hash_slot(__u64 hash, __u32 size)
{
	return (hash >> 32) * size >> 32;
}

#endif
