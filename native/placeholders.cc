// SPDX-License-Identifier: Apache-2.0
#include "placeholders.h"

#include "state.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/bpf.h>
#include <mutex>
#include <vector>

namespace
{
thread_local const Placeholders *filling = nullptr;

/** Arithmetic with a constant operand: a move, a mask, ... */
bool has_immediate(const bpf_insn &instruction)
{
	uint8_t kind = BPF_CLASS(instruction.code), operation = BPF_OP(instruction.code);
	return (kind == BPF_ALU || kind == BPF_ALU64) && BPF_SRC(instruction.code) == BPF_K && operation != BPF_END &&
	       operation != BPF_NEG;
}

/** The two-instruction load of 64 bits; with another source register it is an address. */
bool loads_wide_immediate(const bpf_insn &instruction)
{
	return instruction.code == (BPF_LD | BPF_DW | BPF_IMM) && instruction.src_reg == 0;
}

/** libbpf calls this when it has put subprograms in and resolved the addresses of maps. */
int prepare(bpf_program *program, bpf_prog_load_opts *options, long flags)
{
	options->prog_flags |= static_cast<uint32_t>(flags);
	if (!filling || filling->empty())
		return 0;
	const bpf_insn *compiled = bpf_program__insns(program);
	std::vector<bpf_insn> filled(compiled, compiled + bpf_program__insn_cnt(program));
	for (size_t i = 0; i < filled.size(); i++) {
		bool wide = loads_wide_immediate(filled[i]);
		if (!wide && !has_immediate(filled[i]))
			continue;
		auto found = filling->find(static_cast<uint32_t>(filled[i].imm));
		if (found != filling->end()) {
			filled[i].imm = static_cast<int32_t>(found->second);
			if (wide)
				filled[i + 1].imm = static_cast<int32_t>(found->second >> 32);
		}
		i += wide;
	}
	return bpf_program__set_insns(program, filled.data(), filled.size());
}
} // namespace

void register_placeholder_handlers()
{
	static std::once_flag once;
	std::call_once(once, [] {
		auto handler = options<libbpf_prog_handler_opts>();
		handler.prog_prepare_load_fn = prepare;
		libbpf_register_prog_handler("xdp", BPF_PROG_TYPE_XDP, BPF_XDP, &handler);
		// The kernel demands the flag, and libbpf's own handler sets it.
		handler.cookie = BPF_F_SLEEPABLE;
		libbpf_register_prog_handler("syscall", BPF_PROG_TYPE_SYSCALL, bpf_attach_type{}, &handler);
	});
}

FillingPlaceholders::FillingPlaceholders(const Placeholders &values)
{
	filling = &values;
}

FillingPlaceholders::~FillingPlaceholders()
{
	filling = nullptr;
}
