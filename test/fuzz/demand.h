/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What has to hold, and what is said where it does not. */
#ifndef XLB_FUZZ_DEMAND_H
#define XLB_FUZZ_DEMAND_H

#include <stdio.h>
#include <stdlib.h>
#include "packetpath.h"

struct frame {
	const __u8 *octets;
	size_t size;
};

static struct frame now_under_test;

static void demand(bool holds, const char *rule)
{
	if (holds)
		return;
	fprintf(stderr, "BROKEN RULE: %s\nCPU %u, jiffies %llu, a frame of %zu octets:", rule, host_cpu,
		(unsigned long long)host_jiffies, now_under_test.size);
	for (size_t i = 0; i < now_under_test.size; i++)
		fprintf(stderr, "%s%02x", i % 32 ? " " : "\n  ", now_under_test.octets[i]);
	fprintf(stderr, "\n");
	abort();
}

#endif
