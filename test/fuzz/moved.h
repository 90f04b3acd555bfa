/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What a frame was counted as. */
#ifndef XLB_FUZZ_MOVED_H
#define XLB_FUZZ_MOVED_H

#include "demand.h"
#include "state.h"

/* None of them. */
enum { NOTHING = -1 };

/* Which counters a frame moved: for each group the one that moved, or NOTHING. */
struct moved {
	int reason;
	int flow_reason;
	int client_reason;
	int destination_reason;
	int backend;
	__u64 flows;
};

static void add_moved(int *moved, int which, __u64 before, __u64 after, const char *rule)
{
	if (before == after)
		return;
	demand(after == before + 1 && *moved == NOTHING, rule);
	*moved = which;
}

static int find_backend(const struct state *before, const struct state *after, size_t bytes, __u64 *flows)
{
	int found = NOTHING;

	for (int i = 0; i <= HOST_MASK_counters; i++) {
		const struct backend_counters *old = &before->counters[i], *new = &after->counters[i];

		if (same_words(old, new, sizeof(*old)))
			continue;
		add_moved(&found, i, old->packets, new->packets, "one backend counts the packet, once");
		demand(found == i && new->bytes == old->bytes + bytes, "it counts the frame's octets");
		*flows = new->flows - old->flows;
		demand(*flows <= 1, "a packet is one new flow at most");
	}
	demand(found == NOTHING || found / HOST_COUNTERS_PER_CPU == (int)host_cpu, "a CPU writes its own counters");
	return found == NOTHING ? NOTHING : found % HOST_COUNTERS_PER_CPU;
}

static int *reason_group(struct moved *moved, int reason)
{
	return reason < FLOW_INSERTED              ? &moved->reason
	       : reason < CLIENT_NOTED             ? &moved->flow_reason
	       : reason < DESTINATION_REFUSED_FULL ? &moved->client_reason
						   : &moved->destination_reason;
}

static struct moved compare_counters(const struct state *before, const struct state *after, size_t bytes)
{
	struct moved moved = {NOTHING, NOTHING, NOTHING, NOTHING, NOTHING, 0};

	for (int i = 0; i < REASONS; i++)
		add_moved(reason_group(&moved, i), i, before->cpus[host_cpu].reasons[i],
			  after->cpus[host_cpu].reasons[i], "one reason counts the packet, once");
	for (__u32 i = 0; i < CPUS; i++)
		demand(i == host_cpu || same_words(&before->cpus[i], &after->cpus[i], sizeof(before->cpus[i])),
		       "a CPU writes its own record");
	moved.backend = find_backend(before, after, bytes, &moved.flows);
	return moved;
}

#endif
