// SPDX-License-Identifier: Apache-2.0
// The order in which rr and wrr take backends, and the sharing out of whole places by weight.

/**
 * Shares out `places` whole places in proportion to weights, by largest remainder (Hamilton's method): each gets its
 * ideal share rounded down, and what is left goes one by one to the largest remainders, on a tie to the lower index.
 * So everyone is less than one place from the ideal places * weight / sum, and a weight of 0 gets none.
 *
 * @param weights whole numbers from 0; places * sum(weights) below 2^53; not all 0
 * @returns places for each weight, `places` in all
 */
export function apportion(weights: readonly number[], places: number): number[] {
  const sum = weights.reduce((total, weight) => total + weight, 0)
  const remainders = weights.map((weight) => (places * weight) % sum)
  const shares = weights.map((weight, index) => (places * weight - (remainders[index] ?? 0)) / sum)
  const left = places - shares.reduce((total, share) => total + share, 0)
  const byRemainder = [...weights.keys()].sort((a, b) => (remainders[b] ?? 0) - (remainders[a] ?? 0) || a - b)
  for (const index of byRemainder.slice(0, left)) shares[index] = (shares[index] ?? 0) + 1
  return shares
}

/**
 * Throws unless every weight is a whole number from 0, small enough that sums and products stay exact.
 *
 * @throws RangeError naming the first bad weight
 */
export function checkWeights(weights: readonly number[]): void {
  let sum = 0
  for (const [index, weight] of weights.entries()) {
    if (!Number.isInteger(weight) || weight < 0) {
      throw new RangeError(`weights[${index}]: ${weight} is no weight; choose a whole number from 0`)
    }
    sum += weight
  }
  if (sum >= 2 ** 32) throw new RangeError(`weights: their sum ${sum} exceeds 2^32 - 1; choose smaller ones`)
}

/**
 * The order of turns for rr and wrr: nginx's smooth weighted round robin (ngx_http_upstream_round_robin.c: each turn
 * every backend gains its weight, the one with the most, on a tie the first, is taken and pays the sum of weights).
 * Over one cycle each backend has weight / gcd turns; equal weights give plain index order.
 *
 * When a cycle would be longer than `maxLength`, weights are first scaled to `maxLength` turns: backends whose share
 * would be less than one turn get one, and the turns that remain go to the others by largest remainder. The rounding
 * error: a backend raised to one turn has up to that one turn more than its share; any other is less than one turn from
 * its share (by weight, among the others) of the turns that remain. With nobody raised, each is less than one turn of
 * `maxLength` from its exact share.
 *
 * Takes O(length * distinct weights), and distinct weights number at most sqrt(2 * length).
 *
 * @param weights whole numbers from 0, sum below 2^32; 0 is left out
 * @param maxLength turns, 1 to 2^20
 * @returns indices into `weights`, one for each turn; empty when all weights are 0
 * @throws RangeError when a weight is no whole number, or more than `maxLength` or 65,536 backends have a weight
 */
export function smoothSchedule(weights: readonly number[], maxLength: number): Uint16Array {
  checkWeights(weights)
  if (!Number.isInteger(maxLength) || maxLength < 1 || maxLength > 2 ** 20) {
    throw new RangeError(`maxLength: ${maxLength} turns; choose 1-1048576`)
  }
  if (weights.length > 2 ** 16) throw new RangeError(`weights: ${weights.length} backends exceed 65536`)
  const takers = [...weights.keys()].filter((index) => weights[index] !== 0)
  if (takers.length > maxLength) {
    throw new RangeError(`weights: ${takers.length} backends do not fit ${maxLength} turns; allow a longer schedule`)
  }
  const turns = turnsPerCycle(
    takers.map((index) => weights[index] ?? 0),
    maxLength,
  )
  return interleave(takers, turns)
}

/** Weights in lowest terms, scaled when they sum to more than `maxLength`. All weights are above 0. */
function turnsPerCycle(weights: readonly number[], maxLength: number): number[] {
  const reduced = lowestTerms(weights)
  const sum = reduced.reduce((total, weight) => total + weight, 0)
  return sum <= maxLength ? reduced : lowestTerms(scaleDown(reduced, sum, maxLength))
}

function lowestTerms(weights: readonly number[]): number[] {
  const divisor = weights.reduce(greatestCommonDivisor, 0)
  return weights.map((weight) => weight / divisor)
}

function greatestCommonDivisor(a: number, b: number): number {
  return b === 0 ? a : greatestCommonDivisor(b, a % b)
}

/** `length` turns in proportion to weights, at least one for each. */
function scaleDown(weights: readonly number[], sum: number, length: number): number[] {
  const lightestFirst = [...weights.keys()].sort((a, b) => (weights[a] ?? 0) - (weights[b] ?? 0))
  const raised = new Set<number>()
  let sumLeft = sum
  for (const index of lightestFirst) {
    const weight = weights[index] ?? 0
    if (weight * (length - raised.size) >= sumLeft) break // it and all heavier ones have a share of one turn or more
    raised.add(index)
    sumLeft -= weight
  }
  const shares = apportion(
    weights.map((weight, index) => (raised.has(index) ? 0 : weight)),
    length - raised.size,
  )
  return shares.map((share, index) => (raised.has(index) ? 1 : share))
}

/**
 * Backends of one weight differ in nothing but the turns they have had, so they go round in index order, and it is
 * enough to compare the weights' foremost backends: the same result as nginx's scan of all.
 */
function interleave(takers: readonly number[], turns: readonly number[]): Uint16Array {
  const groups = groupByTurns(takers, turns)
  const sum = turns.reduce((total, weight) => total + weight, 0)
  const gains = Float64Array.from(groups, (group) => group.turns)
  const credits = new Float64Array(groups.length) // of each group's foremost backend
  const foremost = Int32Array.from(groups, (group) => group.members[0] ?? 0)
  const places = new Int32Array(groups.length)
  const schedule = new Uint16Array(sum)
  for (let turn = 0; turn < sum; turn++) {
    const chosen = richest(credits, gains, foremost)
    schedule[turn] = foremost[chosen] ?? 0
    const members = groups[chosen]?.members ?? []
    const place = ((places[chosen] ?? 0) + 1) % members.length
    places[chosen] = place
    foremost[chosen] = members[place] ?? 0
    // The next in the group has had as many turns as the chosen one had before; after the last, all have paid once more.
    if (place === 0) credits[chosen] = (credits[chosen] ?? 0) - sum
  }
  return schedule
}

/** Adds each group's gain to its credit and answers the group with the most, on a tie the lower foremost index. */
function richest(credits: Float64Array, gains: Float64Array, foremost: Int32Array): number {
  let best = 0
  let most = Number.NEGATIVE_INFINITY
  for (let group = 0; group < credits.length; group++) {
    const credit = (credits[group] ?? 0) + (gains[group] ?? 0)
    credits[group] = credit
    if (credit > most || (credit === most && (foremost[group] ?? 0) < (foremost[best] ?? 0))) {
      best = group
      most = credit
    }
  }
  return best
}

function groupByTurns(takers: readonly number[], turns: readonly number[]): { turns: number; members: number[] }[] {
  const groups = new Map<number, number[]>()
  for (const [position, index] of takers.entries()) {
    const weight = turns[position] ?? 0
    const members = groups.get(weight)
    if (members === undefined) groups.set(weight, [index])
    else members.push(index)
  }
  return [...groups].map(([weight, members]) => ({ turns: weight, members }))
}
