/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The one hash. src/core/hash.ts computes the same; test/packet compares the two. */
#ifndef XLB_HASH_H
#define XLB_HASH_H

#include <linux/types.h>

/*
 * Mixes a 64-bit word under a secret 64-bit seed. Two multiplications with the seed taken in before each, so that
 * whoever does not know the seed cannot aim at one bucket or one slot. The upper half is the better one.
 */
static inline __attribute__((always_inline)) __u64 hash_mix(__u64 word, __u64 seed)
{
	word ^= seed;
	word *= 0x9e3779b97f4a7c15ULL;
	word ^= word >> 32;
	word += seed << 32 | seed >> 32;
	word *= 0xd6e8feb86659fd93ULL;
	word ^= word >> 29;
	return word;
}

/* Spreads the upper half of a hash evenly over `size` places, without a division. */
static inline __attribute__((always_inline)) __u32 hash_slot(__u64 hash, __u32 size)
{
	return (hash >> 32) * size >> 32;
}

#endif
