/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The tables that packets read; xlb.h describes what they hold. Each is the one value of a BPF ARRAY map, so that its
 * address is a constant of the program (as libbpf does it for global variables) and an element is a bounds check and an
 * addition away. Through bpf_map_lookup_elem, which the kernel inlines for ARRAYs too, every look-up would write its
 * key to the stack and read it back: measured, 41 ns a packet against 36, with no other difference.
 *
 * The sizes here mean nothing: attach makes the maps in the size that is wanted, and tells it in the MASK_ constants.
 */
#ifndef XLB_MAPS_H
#define XLB_MAPS_H

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>
#include "config.h"
#include "parse.h"

#define TABLE(type, name) type name[TABLE_ELEMENTS(name)] SEC(".data." #name)

TABLE(struct root, root);
TABLE(struct settings, settings);
TABLE(struct target_bucket, vip_buckets);
TABLE(struct target_bucket, service_buckets);
TABLE(struct vip6_bucket, vip6_buckets);
TABLE(struct target, range_targets);
TABLE(struct service, services);
TABLE(struct service_policy, service_policies);
TABLE(struct filter, filters);
TABLE(struct filter_bound, filter_bounds);
TABLE(struct source_rate, source_rates);
TABLE(__u16, rings); /* slots */
TABLE(struct backend, backends);
TABLE(struct connection_limit, connection_limits);
TABLE(struct backend_run, backend_runs); /* by service id */
TABLE(struct connections, connections);  /* by backend.counter */
TABLE(struct flow_bucket, flows);
TABLE(struct flow6_bucket, flows6);
TABLE(struct prefix_flow6_bucket, prefix_flows6);
TABLE(struct flow_bucket, fragments);
TABLE(struct client_bucket, clients);
TABLE(struct destination_bucket, destinations);
TABLE(struct cpu, cpus);
TABLE(struct backend_counters, counters); /* counters_per_cpu of one CPU, then those of the next */
TABLE(struct flow_changes, flow_changes); /* by CPU */
TABLE(__u64, cursors);                    /* by service id: how many backends rr or wrr has handed out, on all CPUs */

/*
 * What is no table: the kernel looks up in these itself. src/dataplane/memory.ts (KERNEL_MAPS) makes them, under the
 * same names.
 */

/* By slot of root.interface: the interface, for a redirect. Frames leave it in bulk, and none looks a device up. */
struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP);
	__uint(max_entries, INTERFACES_MAX);
	__type(key, __u32);
	__type(value, __u32); /* ifindex */
} egress SEC(".maps");

/*
 * Element `index` of a table. No index leads beyond it: every table has a power of two of elements, and the index is
 * cut to that, by an instruction that the verifier can follow and clang cannot reason about. A comparison would be
 * three, and there are five look-ups on a packet's way.
 */
#define AT(name, index)                                                                                                \
	({                                                                                                             \
		typeof(&name[0]) at_ = &name[0];                                                                       \
		__u64 index_ = (index);                                                                                \
		OPAQUE(at_);                                                                                           \
		APPLY_CONSTANT(index_, &=, MASK_##name);                                                               \
		at_ += index_;                                                                                         \
		OPAQUE(at_); /* or clang would add again for each field */                                             \
		at_;                                                                                                   \
	})

#endif
