/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The whole of bpf/xlb.bpf.c, compiled for the host: what it asks the kernel for is answered here. */
#ifndef XLB_FUZZ_PACKETPATH_H
#define XLB_FUZZ_PACKETPATH_H

#include <sanitizer/asan_interface.h>
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

static __u64 host_jiffies;
static __u32 host_cpu;

/* The last redirect. A redirect of the packet path's asks for a slot that is filled; what it answers otherwise are
 * flags. */
static struct {
	__u32 ifindex;
	__u64 flags;
} host_redirected;

static __u32 host_egress(__u64 slot);

static __u32 host_get_smp_processor_id(void)
{
	return host_cpu;
}

static __u64 host_jiffies64(void)
{
	return host_jiffies;
}

static long host_redirect_map(void *map, __u64 slot, __u64 flags)
{
	(void)map;
	host_redirected.ifindex = host_egress(slot);
	host_redirected.flags = flags;
	return host_redirected.ifindex ? XDP_REDIRECT : (long)flags;
}

/* The frame begins so much later. */
static long host_adjust_head(struct xdp_md *ctx, int delta)
{
	if (delta < 0)
		ASAN_UNPOISON_MEMORY_REGION((void *)(__UINTPTR_TYPE__)(ctx->data + delta), -delta);
	ctx->data += delta;
	return 0;
}

/* Frames lie in one buffer here. */
static __u64 host_get_buff_len(const struct xdp_md *ctx)
{
	return ctx->data_end - ctx->data;
}

#define bpf_get_smp_processor_id host_get_smp_processor_id
#define bpf_jiffies64            host_jiffies64
#define bpf_xdp_get_buff_len     host_get_buff_len
#define bpf_xdp_adjust_head      host_adjust_head
#define bpf_redirect_map         host_redirect_map

/* A macro, so that the callback is called as what it is. */
#define bpf_loop(turns, callback, context, flags)                                                                      \
	do {                                                                                                           \
		_Static_assert(!(flags), "none are defined");                                                          \
		for (__u32 turn_ = 0; turn_ < (turns) && !callback(turn_, context); turn_++)                           \
			;                                                                                              \
	} while (0)

#include "xlb.bpf.c"

#endif
