/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * What is known when the program is loaded and never changes after; everything that a verb can change lies in maps.
 *
 * A constant is written `CONSTANT(NAME)`: one instruction that loads the number CONSTANT_NAME of xlb.h into a register,
 * and in which the loader replaces that number by the value (native/placeholders.cc). The kernel does so with its own
 * boot constants (include/asm-generic/runtime-const.h). A variable in .rodata, which is what libbpf has for this, stays
 * a load from a ten-byte address: the hashed path has fifteen of them, and took 35 ns with variables where it takes 25
 * with constants and no other difference (docs/decisions/0007-a-short-way-of-few-instructions.md).
 */
#ifndef XLB_CONFIG_H
#define XLB_CONFIG_H

#include <linux/types.h>
#include "instructions.h"
#include "xlb.h"

/* Below 2^31. */
#define CONSTANT(name)                                                                                                 \
	({                                                                                                             \
		__u64 constant_;                                                                                       \
		LOAD_CONSTANT(constant_, name);                                                                        \
		constant_;                                                                                             \
	})

#define CONSTANT64(name)                                                                                               \
	({                                                                                                             \
		__u64 constant_;                                                                                       \
		LOAD_CONSTANT64(constant_, name);                                                                      \
		constant_;                                                                                             \
	})

#endif
