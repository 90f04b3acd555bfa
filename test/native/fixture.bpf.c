// SPDX-License-Identifier: Apache-2.0
// One of everything that the native addon handles. Compiled by the tests themselves.
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

/** What `answer` returns. */
const volatile __u32 verdict = XDP_PASS;

/** 12 bytes, so that an element's stride (16) is not its size. */
struct element {
	__u32 words[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 100);
	__type(key, __u32);
	__type(value, struct element);
} shared SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, __u32);
} per_cpu SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} table SEC(".maps");

SEC("xdp")
int answer(struct xdp_md *ctx)
{
	__u8 *frame = (__u8 *)(long)ctx->data;
	__u32 first = 0;
	struct element *element = bpf_map_lookup_elem(&shared, &first);
	__u32 *count = bpf_map_lookup_elem(&per_cpu, &first);

	if (element)
		element->words[2] = 0xfeed;
	if (count)
		*count += 1;
	if (frame + 1 <= (__u8 *)(long)ctx->data_end)
		frame[0] = 0xaa;
	return (int)verdict;
}

SEC("xdp")
int longer(struct xdp_md *ctx)
{
	return bpf_xdp_adjust_head(ctx, -20) ? XDP_ABORTED : XDP_TX;
}

enum placeholder { PLACEHOLDER_SMALL = 0x5eed0001, PLACEHOLDER_MASK, PLACEHOLDER_WIDE };

struct filled {
	__u64 small;
	__u64 masked;
	__u64 wide;
};

/* In a subprogram: that is put in after the main program's instructions are known. */
static __attribute__((noinline)) __u64 wide(void)
{
	__u64 value;

	asm("%0 = %1 ll" : "=r"(value) : "i"(PLACEHOLDER_WIDE));
	return value;
}

SEC("syscall")
int placeholders(struct filled *filled)
{
	__u64 masked = filled->masked, small;

	asm("%0 = %1" : "=r"(small) : "i"(PLACEHOLDER_SMALL));
	asm("%0 &= %1" : "+r"(masked) : "i"(PLACEHOLDER_MASK));
	filled->small = small;
	filled->masked = masked;
	filled->wide = wide();
	return 0;
}

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

/** Puts a record of `*size` octets into the ring, each of that value; answers 1 where there is no room. */
SEC("syscall")
int tell(__u32 *size)
{
	__u8 record[64];
	__u32 octets = *size & 63;

	__builtin_memset(record, 0, sizeof(record));
	for (__u32 i = 0; i < sizeof(record); i++)
		record[i] = octets;
	return bpf_ringbuf_output(&ring, record, octets, BPF_RB_NO_WAKEUP) ? 1 : 0;
}

SEC("syscall")
int twice(__u32 *number)
{
	*number *= 2;
	return 7;
}

/** Reads the frame without asking how long it is. */
SEC("xdp")
int refused(struct xdp_md *ctx)
{
	return *(__u8 *)(long)ctx->data;
}

char LICENSE[] SEC("license") = "GPL";
