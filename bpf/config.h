/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is known when the program is loaded and never changes after: the verifier sees these as constants. Everything
 * that a verb can change lies in maps.
 */
#ifndef XLB_CONFIG_H
#define XLB_CONFIG_H

#include <linux/types.h>

/* The interface this copy of the program is attached to. */
const volatile __u32 own_slot = 0; /* its record in `interfaces` */

/* The flow table's shape, equal in every copy that shares the table (struct settings has them for the controller). */
const volatile __u64 flow_seed = 0;
const volatile __u32 flow_mask = 0; /* buckets - 1 */

/* What VIPs are found by (struct directory). */
const volatile __u64 vip_multiplier = 1;

/* Counters that each CPU has in `counters`. */
const volatile __u32 counters_per_cpu = 0;

/* The packet path's clock is jiffies >> age_shift: about a second. Reading jiffies is one load, any other clock a call.
 */
const volatile __u32 age_shift = 8;

#endif
