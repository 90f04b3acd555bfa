// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/*
 * The program for the far end of a director's veth. veth takes an XDP_TX frame only where the *peer* has an XDP program
 * of its own (drivers/net/veth.c, veth_xdp_xmit: the peer polls its ring of frames only then); without one every frame
 * is lost and counted as xdp_tx_errors. Hardware needs nothing of the kind.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int xlb_pass(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_PASS;
}

/* Likewise, where frames take several buffers: an MTU beyond some 3,500. */
SEC("xdp.frags")
int xlb_pass_frags(struct xdp_md *ctx)
{
	(void)ctx;
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
