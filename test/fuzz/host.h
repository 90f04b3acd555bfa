/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What stands in the packet path's instructions where the loader would put it (bpf/instructions.h): small tables, so
 * that a few frames fill them.
 */
#ifndef XLB_FUZZ_HOST_H
#define XLB_FUZZ_HOST_H

#include <stddef.h>
#include "xlb.h"

enum host {
	HOST_OWN_SLOT = 1,
	HOST_OWN_INTERFACE = offsetof(struct root, interface) + HOST_OWN_SLOT * sizeof(struct interface),
	HOST_OWN_PATH = BACKEND_ALIVE | HOST_OWN_SLOT << BACKEND_INTERFACE_SHIFT,
	HOST_DIRECTORY_BUCKETS = 64,
	HOST_AGE_SHIFT = 4,
	HOST_COUNTERS_PER_CPU = 256,
	HOST_MASK_vip_buckets = 127,
	HOST_MASK_service_buckets = 127,
	HOST_MASK_vip6_buckets = 127,
	HOST_MASK_range_targets = 3,
	HOST_MASK_services = 31,
	HOST_MASK_service_policies = 31,
	HOST_MASK_rings = 8191,
	HOST_MASK_backends = 255,
	HOST_MASK_flows = 1,
	HOST_MASK_flows6 = 1,
	HOST_MASK_prefix_flows6 = 1,
	HOST_MASK_fragments = 1,
	HOST_MASK_clients = 1,
	HOST_MASK_destinations = 1,
	HOST_MASK_cpus = 1,
	HOST_MASK_counters = 511,
	HOST_MASK_flow_changes = 1,
	HOST_MASK_cursors = 63,
	HOST_MASK_filters = 7,
	HOST_MASK_filter_bounds = 3,
	HOST_MASK_source_rates = 1,
	HOST_MASK_connection_limits = 127,
	HOST_MASK_backend_runs = 63,
	HOST_MASK_connections = 255,
	/* Of one record each, to which no index leads. */
	HOST_MASK_root = 0,
	HOST_MASK_settings = 0,
};

#define HOST_FLOW_SEED 0x0123456789abcdefULL

#endif
