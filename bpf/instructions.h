/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The few instructions that C has no words for: those in which the loader puts a constant (config.h), and a shift. The
 * second variant is for programs on the host that run the packet path as C, as test/fuzz does: whoever compiles it so
 * provides host.h, with a HOST_ value for each CONSTANT_ of xlb.h.
 */
#ifndef XLB_INSTRUCTIONS_H
#define XLB_INSTRUCTIONS_H

#ifdef __bpf__

#define LOAD_CONSTANT(word, name)          asm("%0 = %1" : "=r"(word) : "i"(CONSTANT_##name)) /* below 2^31 */
#define LOAD_CONSTANT64(word, name)        asm("%0 = %1 ll" : "=r"(word) : "i"(CONSTANT_##name))
#define APPLY_CONSTANT(word, equals, name) asm("%0 " #equals " %1" : "+r"(word) : "i"(CONSTANT_##name))

/* Cuts a word to some of its bits, also where clang knows that it has no others and the verifier does not. */
#define CUT(word, bits) asm("%0 &= %1" : "+r"(word) : "i"(bits))

/* It takes the shift from the lowest six bits (RFC 9669 section 4.1), which C leaves undefined. */
#define SHIFT_RIGHT(word, shift) asm("%0 >>= %1" : "+r"(word) : "r"(shift))

/* A table's address, as clang cannot share it with other places: a register less for those. */
#define LOAD_ADDRESS(pointer, table) asm volatile("%0 = " #table " ll" : "=r"(pointer))

/* attach makes the tables, and no instruction tells their size. */
#define TABLE_ELEMENTS(name) 1

#else

#include "host.h"

#define LOAD_CONSTANT(word, name)          (word = HOST_##name)
#define LOAD_CONSTANT64(word, name)        (word = HOST_##name)
#define APPLY_CONSTANT(word, equals, name) (word equals HOST_##name)
#define CUT(word, bits)                    (word &= (bits))
#define SHIFT_RIGHT(word, shift)           (word >>= (shift)&63)
#define LOAD_ADDRESS(pointer, table)       (pointer = &table[0])
#define TABLE_ELEMENTS(name)               (HOST_MASK_##name + 1)

#endif

#endif
