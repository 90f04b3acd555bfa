// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* Makes a host of the lab one of VLAN `VLAN`, where the kernel has no VLAN devices: all its IPv4 has that tag. */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

struct tagged {
	__u8 macs[2 * ETH_ALEN];
	__be16 type_be;
	__be16 control_be;
	__be16 inner_be;
} __attribute__((packed));

/* In: takes the tag off. IPv4 of another segment does not arrive. */
SEC("xdp")
int segment_in(struct xdp_md *ctx)
{
	struct tagged *frame = (void *)(long)ctx->data;
	__u64 macs[2];

	if ((void *)(frame + 1) > (void *)(long)ctx->data_end)
		return XDP_DROP;
	if (frame->type_be == bpf_htons(ETH_P_IP))
		return XDP_DROP;
	if (frame->type_be != bpf_htons(ETH_P_8021Q))
		return XDP_PASS; /* ARP: neighbours are found without VLANs here */
	if ((bpf_ntohs(frame->control_be) & 0xfff) != VLAN)
		return XDP_DROP;
	__builtin_memcpy(macs, frame->macs, sizeof(frame->macs));
	__builtin_memcpy((void *)frame + 4, macs, sizeof(frame->macs));
	return bpf_xdp_adjust_head(ctx, 4) ? XDP_DROP : XDP_PASS;
}

/* Out: IPv4 gets the tag. */
SEC("tc")
int segment_out(struct __sk_buff *skb)
{
	if (skb->protocol == bpf_htons(ETH_P_IP))
		bpf_skb_vlan_push(skb, bpf_htons(ETH_P_8021Q), VLAN);
	return TC_ACT_OK;
}

char _license[] SEC("license") = "Dual BSD/GPL";
