/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * VLAN tags on the way out. The innermost tag names the segment (IEEE 802.1Q), and a frame leaves with that of its
 * backend's, or with none where that is untagged. An outer tag is the provider's (802.1ad), which carries the segments
 * of one customer, and stays. What is told beside the segment stays with a tag: its type, priority and eligibility to
 * be dropped.
 */
#ifndef XLB_VLAN_H
#define XLB_VLAN_H

#include "parse.h"

enum vlan_control { VLAN_ID_MASK = 0x0fff };

/* Not struct vlan_tag, which is a tag as it stands behind the EtherType that announces it. */
enum vlan_bytes { VLAN_TAG_BYTES = 4 };

#define WORD_AT(type, at) (*(volatile type *)(at))

/* The MACs move to the front, and a tag of priority 0 comes behind them. */
static __always_inline bool push_tag(struct xdp_md *ctx, __u32 vlan)
{
	__u64 macs_low;
	__u32 macs_high;
	void *data;

	if (bpf_xdp_adjust_head(ctx, -VLAN_TAG_BYTES))
		return false;
	data = (void *)(long)ctx->data;
	if (data + ETH_HLEN + VLAN_TAG_BYTES > (void *)(long)ctx->data_end)
		return false;
	macs_low = WORD_AT(__u64, data + VLAN_TAG_BYTES);
	macs_high = WORD_AT(__u32, data + VLAN_TAG_BYTES + 8);
	WORD_AT(__u64, data) = macs_low;
	WORD_AT(__u32, data + 8) = macs_high;
	WORD_AT(__u32, data + 2 * ETH_ALEN) = bpf_htons(ETH_P_8021Q) | (__u32)bpf_htons(vlan) << 16;
	return true;
}

/* The MACs, and the outer tag where there are two, move to the tag's place. */
static __always_inline bool pop_tag(struct xdp_md *ctx, __u32 tags)
{
	void *data = (void *)(long)ctx->data;
	__u64 low, high;

	if (data + ETH_HLEN + 2 * VLAN_TAG_BYTES > (void *)(long)ctx->data_end)
		return false;
	low = WORD_AT(__u64, data);
	high = WORD_AT(__u64, data + 8);
	WORD_AT(__u64, data + VLAN_TAG_BYTES) = low;
	if (tags == 1)
		WORD_AT(__u32, data + VLAN_TAG_BYTES + 8) = high;
	else
		WORD_AT(__u64, data + VLAN_TAG_BYTES + 8) = high;
	return !bpf_xdp_adjust_head(ctx, VLAN_TAG_BYTES);
}

static __always_inline bool rewrite_tag(struct xdp_md *ctx, __u32 tags, __u32 vlan)
{
	void *control = (void *)(long)ctx->data + ETH_HLEN + (tags == 1 ? 0 : VLAN_TAG_BYTES);

	if (control + sizeof(__u16) > (void *)(long)ctx->data_end)
		return false;
	WORD_AT(__u16, control) = (WORD_AT(__u16, control) & ~bpf_htons(VLAN_ID_MASK)) | bpf_htons(vlan);
	return true;
}

/*
 * Brings a frame with `tags` VLAN tags into the segment `vlan`; 0: untagged. Its MACs are written already: they move.
 * Pointers into the frame mean nothing afterwards. Answers whether it could; false: there is no room for another tag.
 */
__noinline int bring_into_vlan(struct xdp_md *ctx, __u32 tags, __u32 vlan)
{
	vlan &= VLAN_ID_MASK;
	if (!tags)
		return vlan ? push_tag(ctx, vlan) : true;
	return vlan ? rewrite_tag(ctx, tags, vlan) : pop_tag(ctx, tags);
}

#endif
