/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What slots of rings, schedules and persistence name: backends of a service. */
#ifndef XLB_SLOTS_H
#define XLB_SLOTS_H

#include "flow.h"

/* Slot `slot` of a ring or schedule that starts at a line. */
static __always_inline __u32 line_slot(__u32 line, __u32 slot)
{
	return *AT(rings, (__u64)line * SLOTS_PER_LINE + slot);
}

/* A backend's flags, 0 if there is none. */
static __always_inline __u32 backend_flags(const struct service *service, __u32 backend)
{
	struct backend *found;

	if (backend >= service->backend_count)
		return 0;
	found = AT(backends, service->backend_base + backend);
	return READ_WORD(found->word) & BACKEND_FLAGS_MASK;
}

#endif
