// SPDX-License-Identifier: Apache-2.0
// Placement for struct directory of bpf/xlb.h: a multiplier under which no bucket overflows, found by trying.

import { multiplyHigh } from './hash.ts'

/** Where every key of one directory table goes. */
export interface DirectoryPlan {
  /** 64 bits. */
  readonly multiplier: bigint
  /** A key's bucket is (key * multiplier mod 2^64) >> shift; 64 - log2(buckets), 33 to 63. */
  readonly shift: number
  /** A power of two, 2 or more. */
  readonly buckets: number
  /** The bucket of each key, in the order of the keys. */
  readonly bucketOf: Uint32Array
}

/**
 * Buckets for each key to start with. With places for four in a bucket, buckets overflow (five keys or more) about
 * buckets * load^5 / 120 * e^-load times: at a load of 1/4 and 4,096 keys 0.1 times, so nine multipliers of ten will do;
 * at a load of 1/2 one of four.
 */
const BUCKETS_PER_KEY = 4

/** Multipliers to try before the number of buckets is doubled: at a load of 1/2 and 4,096 keys, 1 in 10,000 fails. */
const TRIES_PER_SIZE = 32

/** bucketOf comes from the upper 32 bits of the product. */
const BUCKET_BITS_MAX = 31

const WORD_END = 1n << 64n

/**
 * Finds a multiplier under which no bucket holds more than `perBucket` keys, in the fewest buckets that it starts with
 * (the first power of two of at least four for each key) or, after 32 failures, twice as many, and so on.
 *
 * @param keys unsigned 64-bit, each once; not 0, which marks a free place
 * @param perBucket places in a bucket
 * @param maxBuckets room in the map, at least 2; what is beyond a power of two stays unused
 * @param random 64 random bits, secret, or an attacker could choose keys that collide; different at each call
 * @throws RangeError for a key that is 0, beyond 64 bits or twice there
 * @throws Error when the keys do not fit
 */
export function planDirectory(
  keys: readonly bigint[],
  perBucket: number,
  maxBuckets: number,
  random: () => bigint,
): DirectoryPlan {
  checkKeys(keys)
  return findPlan(keys, perBucket, maxBuckets, () => BigInt.asUintN(64, random()) | 1n)
}

function findPlan(
  keys: readonly bigint[],
  perBucket: number,
  maxBuckets: number,
  draw: (shift: number) => bigint,
): DirectoryPlan {
  if (maxBuckets < 2) throw new RangeError(`maxBuckets: ${maxBuckets} is below 2`)
  const lows = Uint32Array.from(keys, (key) => Number(BigInt.asUintN(32, key)))
  const highs = Uint32Array.from(keys, (key) => Number(key >> 32n))
  const bucketOf = new Uint32Array(keys.length)
  const maxBits = Math.min(Math.floor(Math.log2(maxBuckets)), BUCKET_BITS_MAX)
  const startBits = Math.max(1, Math.ceil(Math.log2(BUCKETS_PER_KEY * keys.length)))
  for (let bits = Math.min(startBits, maxBits); bits <= maxBits; bits++) {
    const used = new Uint32Array(2 ** bits)
    for (let attempt = 0; attempt < TRIES_PER_SIZE; attempt++) {
      const multiplier = draw(64 - bits)
      if (place(lows, highs, multiplier, perBucket, used.fill(0), bucketOf)) {
        return { multiplier, shift: 64 - bits, buckets: 2 ** bits, bucketOf }
      }
    }
  }
  throw new Error(
    `directory: ${keys.length} keys do not fit ${2 ** maxBits} buckets of ${perBucket} places; ` +
      `make it larger or use fewer keys`,
  )
}

function checkKeys(keys: readonly bigint[]): void {
  const seen = new Set<bigint>()
  for (const [index, key] of keys.entries()) {
    if (key <= 0n || key >= WORD_END) {
      throw new RangeError(`keys[${index}]: ${key} is no key of 64 bits other than 0 (a free place)`)
    }
    if (seen.has(key)) throw new RangeError(`keys[${index}]: ${key} stands there twice; give each key once`)
    seen.add(key)
  }
}

/** Fills `bucketOf` under one multiplier; false as soon as a bucket overflows. `used` is all 0, its length 2 or more. */
function place(
  lows: Uint32Array,
  highs: Uint32Array,
  multiplier: bigint,
  perBucket: number,
  used: Uint32Array,
  bucketOf: Uint32Array,
): boolean {
  const multiplierLow = Number(BigInt.asUintN(32, multiplier))
  const multiplierHigh = Number(multiplier >> 32n)
  const shift = 32 - Math.log2(used.length)
  for (let index = 0; index < lows.length; index++) {
    const product = multiplyHigh(lows[index] as number, highs[index] as number, multiplierLow, multiplierHigh)
    const bucket = product >>> shift
    const taken = used[bucket] as number
    if (taken === perBucket) return false
    used[bucket] = taken + 1
    bucketOf[index] = bucket
  }
  return true
}

/**
 * As planDirectory, for VIPs: `multiplier` is a whole word as root.live, of which some bits have a meaning of their own. The same word
 * may stand there twice (of two IPv6 addresses), as long as a bucket holds them.
 */
export function planWords(
  words: readonly bigint[],
  perBucket: number,
  maxBuckets: number,
  drawWord: (shift: number) => bigint,
): DirectoryPlan {
  return findPlan(words, perBucket, maxBuckets, drawWord)
}
