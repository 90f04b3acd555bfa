/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What packets write, so that two programs can be given the same tables, and what they made of them compared. */
#ifndef XLB_FUZZ_STATE_H
#define XLB_FUZZ_STATE_H

#include <string.h>
#include "tables.h"

enum { CPUS = HOST_MASK_cpus + 1 };

typedef __u64 words __attribute__((vector_size(2 * sizeof(__u64)), aligned(sizeof(__u64))));

/*
 * Of sizes that are even numbers of words. memcmp would be slower under a sanitizer, and libFuzzer would take what it
 * sees for words of frames.
 */
static __attribute__((no_sanitize("address", "undefined"))) bool same_words(const void *one, const void *other,
									    size_t size)
{
	const words *left = one, *right = other;
	words differ = {0};

	for (size_t i = 0; i < size / sizeof(*left); i++)
		differ |= left[i] ^ right[i];
	return !(differ[0] | differ[1]);
}

struct state {
	struct flow_bucket flows[HOST_MASK_flows + 1];
	struct flow6_bucket flows6[HOST_MASK_flows6 + 1];
	struct prefix_flow6_bucket prefix_flows6[HOST_MASK_prefix_flows6 + 1];
	struct flow_bucket fragments[HOST_MASK_fragments + 1];
	struct client_bucket clients[HOST_MASK_clients + 1];
	struct destination_bucket destinations[HOST_MASK_destinations + 1];
	struct connections connections[HOST_MASK_connections + 1];
	struct cpu cpus[CPUS];
	struct backend_counters counters[HOST_MASK_counters + 1];
	__u64 cursors[HOST_MASK_cursors + 1];
	struct source_rate source_rates[HOST_MASK_source_rates + 1];
	/* Of flow_changes: how many there are, and the newest. A packet writes one at most. */
	__u64 changes[CPUS];
	__u64 newest_change[CPUS];
};

_Static_assert(sizeof(struct state) % sizeof(words) == 0, "same_words sees all of it");

static void take_state(struct state *state)
{
	memcpy(state->flows, flows, sizeof(state->flows));
	memcpy(state->flows6, flows6, sizeof(state->flows6));
	memcpy(state->prefix_flows6, prefix_flows6, sizeof(state->prefix_flows6));
	memcpy(state->fragments, fragments, sizeof(state->fragments));
	memcpy(state->clients, clients, sizeof(state->clients));
	memcpy(state->destinations, destinations, sizeof(state->destinations));
	memcpy(state->connections, connections, sizeof(state->connections));
	memcpy(state->cpus, cpus, sizeof(state->cpus));
	memcpy(state->counters, counters, sizeof(state->counters));
	memcpy(state->cursors, cursors, sizeof(state->cursors));
	memcpy(state->source_rates, source_rates, sizeof(state->source_rates));
	for (int i = 0; i < CPUS; i++) {
		state->changes[i] = flow_changes[i].written;
		state->newest_change[i] = flow_changes[i].bucket[(flow_changes[i].written - 1) % FLOW_CHANGES_PER_CPU];
	}
}

static void put_state(const struct state *state)
{
	memcpy(flows, state->flows, sizeof(state->flows));
	memcpy(flows6, state->flows6, sizeof(state->flows6));
	memcpy(prefix_flows6, state->prefix_flows6, sizeof(state->prefix_flows6));
	memcpy(fragments, state->fragments, sizeof(state->fragments));
	memcpy(clients, state->clients, sizeof(state->clients));
	memcpy(destinations, state->destinations, sizeof(state->destinations));
	memcpy(connections, state->connections, sizeof(state->connections));
	memcpy(cpus, state->cpus, sizeof(state->cpus));
	memcpy(counters, state->counters, sizeof(state->counters));
	memcpy(cursors, state->cursors, sizeof(state->cursors));
	memcpy(source_rates, state->source_rates, sizeof(state->source_rates));
	for (int i = 0; i < CPUS; i++)
		flow_changes[i].written = state->changes[i];
}

/* Empty, but that the list of changes is soon at its end and begins anew. */
static void clear_state(void)
{
	static struct state empty;

	for (int i = 0; i < CPUS; i++)
		empty.changes[i] = FLOW_CHANGES_PER_CPU - 2;
	put_state(&empty);
}

/* ---- the tables that packets only read ---- */

static struct {
	struct root root[sizeof(root) / sizeof(root[0])];
	struct settings settings[sizeof(settings) / sizeof(settings[0])];
	struct target_bucket vip_buckets[HOST_MASK_vip_buckets + 1];
	struct target_bucket service_buckets[HOST_MASK_service_buckets + 1];
	struct vip6_bucket vip6_buckets[HOST_MASK_vip6_buckets + 1];
	struct target range_targets[HOST_MASK_range_targets + 1];
	struct service services[HOST_MASK_services + 1];
	struct service_policy service_policies[HOST_MASK_service_policies + 1];
	struct filter filters[HOST_MASK_filters + 1];
	struct filter_bound filter_bounds[HOST_MASK_filter_bounds + 1];
	__u16 rings[HOST_MASK_rings + 1];
	struct backend backends[HOST_MASK_backends + 1];
} written_once;

#define EACH_READ_TABLE(with)                                                                                          \
	with(root) with(settings) with(vip_buckets) with(service_buckets) with(vip6_buckets) with(range_targets)       \
	    with(services) with(service_policies) with(filters) with(filter_bounds) with(rings) with(backends)

static void keep_read_tables(void)
{
#define KEEP(name) memcpy(written_once.name, name, sizeof(name));
	EACH_READ_TABLE(KEEP)
#undef KEEP
}

static bool read_tables_are_untouched(void)
{
	bool same = true;

#define COMPARE(name) same = same && same_words(written_once.name, name, sizeof(name));
	EACH_READ_TABLE(COMPARE)
#undef COMPARE
	return same;
}

#endif
