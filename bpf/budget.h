/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * How many new flows a CPU may record in a unit of age. While that is passed, and for a time after, the ring decides
 * in the scheduler's place.
 */
#ifndef XLB_BUDGET_H
#define XLB_BUDGET_H

#include "directory.h"
#include "flow.h"

enum budget { BUDGET_LEFT, BUDGET_FLOODED, BUDGET_SPENT };

/* Has this CPU recorded as many flows in this unit of age as it may? */
static __always_inline bool is_spent(const struct cpu *cpu, __u64 now)
{
	return cpu->budget_age == (__u32)now && cpu->budget_used >= directory_now()->new_flows;
}

/* A flow is beyond the bound. */
static __always_inline void note_flood(struct cpu *cpu, __u64 now)
{
	cpu->flood_age = now;
	cpu->flooded = 1;
	count(cpu, FLOW_REFUSED_BUDGET);
}

/* What this CPU may still record in this unit of age; counts what it may not. */
static __always_inline enum budget budget_left(struct cpu *cpu, __u64 now)
{
	const struct settings *bounds = settings_now();

	if (cpu->budget_age != (__u32)now) {
		cpu->budget_age = now;
		cpu->budget_used = 0;
	}
	if (unlikely(is_spent(cpu, now))) {
		note_flood(cpu, now);
		return BUDGET_SPENT;
	}
	if (unlikely(cpu->flooded)) {
		if ((__u32)now - cpu->flood_age <= bounds->flood_hold)
			return BUDGET_FLOODED;
		cpu->flooded = 0;
	}
	return BUDGET_LEFT;
}

#endif
