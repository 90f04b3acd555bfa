/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Where frames lie: a page between two that cannot be touched, below 4 GiB, as struct xdp_md has 32 bits for an
 * address. What of the page is not the frame is poisoned, so that AddressSanitizer tells the first octet read beyond
 * it.
 */
#ifndef XLB_FUZZ_ARENA_H
#define XLB_FUZZ_ARENA_H

#include <sanitizer/asan_interface.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <linux/types.h>

enum { PAGE_BYTES = 4096, HEADROOM_BYTES = 8, FRAME_BYTES_MAX = PAGE_BYTES - HEADROOM_BYTES };

static __u8 *make_arena(void)
{
	__u8 *pages = mmap(NULL, 3 * PAGE_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);

	if (pages == MAP_FAILED || mprotect(pages + PAGE_BYTES, PAGE_BYTES, PROT_READ | PROT_WRITE))
		abort();
	return pages + PAGE_BYTES;
}

static __u8 *place(__u8 *arena, __u8 *start, const __u8 *frame, size_t size)
{
	ASAN_UNPOISON_MEMORY_REGION(arena, PAGE_BYTES);
	memcpy(start, frame, size);
	ASAN_POISON_MEMORY_REGION(arena, PAGE_BYTES);
	ASAN_UNPOISON_MEMORY_REGION(start, size);
	return start;
}

/* No octet before the frame, nor any behind it, can be read unnoticed. There is room for a tag. */
static __u8 *place_at_start(__u8 *arena, const __u8 *frame, size_t size)
{
	return place(arena, arena + HEADROOM_BYTES, frame, size);
}

/* The same without help of a sanitizer, behind the frame. */
static __u8 *place_at_end(__u8 *arena, const __u8 *frame, size_t size)
{
	return place(arena, arena + PAGE_BYTES - size, frame, size);
}

#endif
