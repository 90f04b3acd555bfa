/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What each backend has to do: its entries in the flow table, counted as they come, change and go. Whoever changes an
 * entry counts it; a packet that finds its entry as it was counts nothing.
 *
 * active and inactive are IPVS's: active connections are established ones, and those whose SYN was seen
 * (net/netfilter/ipvs/ip_vs_proto_tcp.c, tcp_state_active: else a burst of them would all go to one backend, which has
 * nothing to do until they are established). All others are inactive; so is every UDP flow, as in IPVS (ip_vs_conn.c,
 * ip_vs_bind_dest: a connection starts as an inactive one, and ip_vs_proto_udp.c knows no other state).
 */
#ifndef XLB_CONNECTIONS_H
#define XLB_CONNECTIONS_H

#include "config.h"
#include "maps.h"
#include "parse.h"

static __always_inline __u32 flow_state(__u64 value)
{
	return value >> FLOW_STATE_SHIFT & FLOW_STATE_MASK;
}

static __always_inline __u32 flow_backend(__u64 value)
{
	return value >> FLOW_BACKEND_SHIFT & FLOW_BACKEND_MASK;
}

/* What an entry in this state adds to its backend's counts. */
static __always_inline __u64 counts_as(__u32 state)
{
	return state == FLOW_ESTABLISHED || state == FLOW_HALF_OPEN ? 1ULL << COUNTS_ACTIVE_SHIFT : 1;
}

static __always_inline __s64 inactive_of(__u64 counts)
{
	return (__s32)counts;
}

static __always_inline __s64 active_of(__u64 counts)
{
	return (__s64)(counts - inactive_of(counts)) >> COUNTS_ACTIVE_SHIFT;
}

/*
 * Adds to the counts of the backend that an entry names, if its service still has it. Not inlined: the verifier proves
 * it once. Takes an entry's key and value, so that whoever frees another's entry can count it off.
 */
__noinline int count_entry(__u64 key, __u64 value, __u64 counts)
{
	__u64 run = *(volatile __u64 *)AT(backend_runs, key >> FLOW_SERVICE_SHIFT); /* base and count of one moment */
	const struct backend *backend;
	struct connections *found;

	if (flow_backend(value) >= (__u16)(run >> 32))
		return 0;
	backend = AT(backends, (__u32)run + flow_backend(value));
	found = AT(connections, backend->counter);
	__sync_fetch_and_add(&found->counts, counts);
	return 0;
}

#endif
