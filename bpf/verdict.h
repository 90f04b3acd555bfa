/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* How a packet's way ends: each verdict has a reason, and each reason a counter. */
#ifndef XLB_VERDICT_H
#define XLB_VERDICT_H

#include "maps.h"

/*
 * What a capture is told of a packet beside what is counted. capture.bpf.c defines these; in the packet path as it is
 * attached else they are nothing.
 */
#ifndef NOTE_REASON
#define NOTE_REASON(cpu, reason)
#define NOTE_SERVICE(cpu_number, service)
#define NOTE_BACKEND(cpu_number, backend)
#endif

/* This CPU's own record. */
static __always_inline struct cpu *own_cpu(__u64 cpu_number)
{
	return AT(cpus, cpu_number);
}

/* No other writer: the record is this CPU's, and XDP runs with bottom halves off. */
static __always_inline void count(struct cpu *cpu, enum reason reason)
{
	cpu->reasons[reason]++;
	NOTE_REASON(cpu, reason);
}

static __always_inline int drop(struct cpu *cpu, enum reason reason)
{
	count(cpu, reason);
	return XDP_DROP;
}

static __always_inline int pass(struct cpu *cpu, enum reason reason)
{
	count(cpu, reason);
	return XDP_PASS;
}

/*
 * Answered where balance() shall see to a frame. That is called by whoever has the fewest frames of stack above: the
 * whole chain of calls has 512 octets.
 */
enum { TAKE_LONG_WAY = -1 };

#endif
