// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * Another version of the packet path, for tests of its replacement: bpf/xlb.bpf.c with one harmless instruction more, -DVARIANT=N,
 * wherever it asks for its CPU or for the time.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#define WITH_VARIANT(value)                                                                                            \
	({                                                                                                             \
		asm volatile("r1 = %0" ::"i"(VARIANT) : "r1");                                                         \
		value;                                                                                                 \
	})
#define bpf_get_smp_processor_id() WITH_VARIANT(bpf_get_smp_processor_id())
#define bpf_jiffies64() WITH_VARIANT(bpf_jiffies64())

#include "../../bpf/xlb.bpf.c"
