/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The packet path, run for one frame, and what became of it. */
#ifndef XLB_FUZZ_OUTCOME_H
#define XLB_FUZZ_OUTCOME_H

#include "demand.h"
#include "state.h"

/* What became of a frame. */
struct outcome {
	int verdict;
	__u32 egress; /* where a redirect leads to; else 0 */
	__u8 frame[FRAME_BYTES_MAX + HEADROOM_BYTES];
	size_t size;
	struct state state;
};

static void run(int (*program)(struct xdp_md *), __u8 *start, size_t size, struct outcome *outcome)
{
	struct xdp_md ctx = {.data = (uintptr_t)start, .data_end = (uintptr_t)start + size};

	memset(&host_redirected, 0, sizeof(host_redirected));
	outcome->verdict = program(&ctx);
	outcome->egress = host_redirected.ifindex;
	demand(!host_redirected.ifindex || host_redirected.flags == XDP_DROP,
	       "where a redirect leads nowhere, the frame is dropped");
	outcome->size = (uintptr_t)start + size - ctx.data;
	memcpy(outcome->frame, (void *)(uintptr_t)ctx.data, outcome->size);
	take_state(&outcome->state);
}

#endif
