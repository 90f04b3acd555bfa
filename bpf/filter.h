/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Whom a service does not hear: sources that are denied, and sources that open too many connections. Asked on the long
 * way alone, of services that have a filter, or of all where there is a filter of all.
 *
 * An ICMP error is judged by the client whose flow it is about, as conntrack has it for what is related to a flow: a
 * list that allows some clients must not stop the routers between them from telling of their path's MTU.
 */
#ifndef XLB_FILTER_H
#define XLB_FILTER_H

#include "schedule.h"

/*
 * Is a half to be left behind? 1 or 0, computed, not branched on: the processor could not foresee it. Shifted without a
 * sign: newer verifiers follow both outcomes of a shift with one, and there are 21 of these.
 */
static __always_inline __u64 is_passed(__u64 next, __u64 count, __u64 bound, __u64 address)
{
	__u64 passed = (next - count - 1) & (bound - address - 1); /* negative: both are */

	passed >>= 63;
	OPAQUE(passed);
	return passed;
}

/*
 * How many of `count` ascending IPv4 addresses from filter_bounds[first] on are at or below this one. Not inlined: the
 * verifier proves it once.
 */
__noinline __u32 bounds_passed4(__u32 first, __u32 count, __u32 address)
{
	__u64 passed = 0;

#pragma unroll
	for (__u64 step = FILTER_BOUNDS_MAX / 2; step; step /= 2) {
		__u64 next = passed + step, at = next - 1;

		if (step > count)
			continue;
		passed += step * is_passed(next, count, AT(filter_bounds, first + (at >> 2))->word[at & 3], address);
	}
	return passed;
}

/* Is one number below another? 1 or 0, without a branch (Warren, Hacker's Delight, section 2-12). */
static __always_inline __u64 is_below(__u64 one, __u64 other)
{
	__u64 below = (~one & other) | ((~one | other) & (one - other));

	below >>= 63;
	OPAQUE(below);
	return below;
}

static __always_inline __u64 is_equal(__u64 one, __u64 other)
{
	__u64 difference = one ^ other;

	difference = (difference | -difference) >> 63;
	OPAQUE(difference);
	return difference ^ 1;
}

/* As bounds_passed4, of IPv6: the upper and the lower half of an address, as numbers. */
__noinline __u32 bounds_passed6(__u32 first, __u32 count, __u64 high, __u64 low)
{
	__u64 passed = 0;

#pragma unroll
	for (__u64 step = FILTER_BOUNDS_MAX / 2; step; step /= 2) {
		const struct filter_bound *bound;
		__u64 next = passed + step, bound_high, bound_low, beyond;

		if (step > count)
			continue;
		bound = AT(filter_bounds, first + next - 1);
		bound_high = (__u64)bound->word[0] << 32 | bound->word[1];
		bound_low = (__u64)bound->word[2] << 32 | bound->word[3];
		beyond = is_below(high, bound_high) | (is_equal(high, bound_high) & is_below(low, bound_low)) |
			 is_below(count, next);
		passed += step * (beyond ^ 1);
	}
	return passed;
}

/* Does a filter deny the packet's source? */
static __always_inline bool denies_source(const struct filter *filter, const struct packet *packet)
{
	__u32 passed = packet->is_ipv6
			   ? bounds_passed6(filter->first6, filter->count6, bpf_be64_to_cpu(packet->source6.high),
					    bpf_be64_to_cpu(packet->source6.low))
			   : bounds_passed4(filter->first4, filter->count4, bpf_ntohl(packet->source_be));

	return (filter->denies + passed) & 1;
}

/* ---- the rate at which a source opens connections ---- */

/* What of a source counts for its rate, at one service: a word, the same for all that make one source. */
static __always_inline __u64 rate_key(const struct filter *filter, const struct packet *packet)
{
	__u32 bits = filter->rate_bits, high_bits = bits < 64 ? bits : 64;
	__u64 source;

	if (!packet->is_ipv6)
		return leading_bits(packet->source_be, bits) + filter->rate_salt;
	source = hash_address6(leading_bits(packet->source6.high, high_bits),
			       leading_bits(packet->source6.low, bits - high_bits), CONSTANT64(FLOW_SEED));
	return source + filter->rate_salt;
}

static __always_inline void raise_to(__u64 *cell, __u64 seen, __u64 due)
{
	/* A lost race is another connection's, which has raised it too. */
	if (seen < due)
		__sync_val_compare_and_swap(cell, seen, due);
}

/* Counts a new connection. False: it comes before its time. Not inlined: the verifier proves it once. */
__noinline int rate_allows(__u64 key, __u64 interval, __u64 tolerance)
{
	__u64 one = hash_mix(key, CONSTANT64(FLOW_SEED) ^ 0x3c6ef372fe94f82aULL);
	__u64 other = hash_mix(key, CONSTANT64(FLOW_SEED) ^ 0xa54ff53a5f1d36f0ULL);
	/* There are 2^19 words in a row at most. */
	__u64 *cell[RATE_ROWS] = {
	    &AT(source_rates, one >> 40)->due[0],
	    &AT(source_rates, one >> 16)->due[1],
	    &AT(source_rates, other >> 40)->due[2],
	    &AT(source_rates, other >> 16)->due[3],
	};
	__u64 now = bpf_jiffies64() << RATE_SHIFT, due = ~0ULL, seen[RATE_ROWS];

#pragma unroll
	for (int row = 0; row < RATE_ROWS; row++) {
		seen[row] = READ_WORD(*cell[row]);
		due = seen[row] < due ? seen[row] : due;
	}
	if (due > now + tolerance)
		return false;
	due = (due > now ? due : now) + interval;
#pragma unroll
	for (int row = 0; row < RATE_ROWS; row++)
		raise_to(cell[row], seen[row], due);
	return true;
}

/*
 * What counts as a new connection: a SYN, repeated ones too; a UDP datagram of a flow that the flow table does not
 * know; and each datagram of a service that does not record any.
 */
static __always_inline bool asks_for_flow(const struct service *service, const struct packet *packet)
{
	__u64 value;

	if (packet->part == PART_LATER || packet->part == PART_ERROR)
		return false;
	if (!(service->flags & SERVICE_UDP))
		return opens_connection(packet);
	if ((service->flags & (SERVICE_TRACKED | SERVICE_OPS)) != SERVICE_TRACKED)
		return true;
	value = flow_value_of(packet, service->id);
	return !value || !entry_holds(service, packet, value, clock_age());
}

/* Drops a packet for a service that filters refuse, and answers XDP_DROP; else 0. */
__noinline int ask_filters(const struct service *service, const struct packet *packet, __u32 of_all, __u32 own)
{
	const struct filter *filter;
	struct cpu *cpu;

	if (!service || !packet)
		return 0;
	cpu = own_cpu(packet->cpu_number);
	if (of_all && denies_source(AT(filters, of_all), packet))
		return drop(cpu, DROP_DENIED_GLOBAL);
	if (!own)
		return 0;
	filter = AT(filters, own);
	if (denies_source(filter, packet))
		return drop(cpu, DROP_DENIED);
	if (filter->interval && asks_for_flow(service, packet) &&
	    !rate_allows(rate_key(filter, packet), filter->interval, filter->tolerance))
		return drop(cpu, DROP_RATE_LIMITED);
	return 0;
}

#endif
