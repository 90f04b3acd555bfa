// SPDX-License-Identifier: Apache-2.0
// Constants that a program holds in its instructions, written there just before the kernel sees it.
#pragma once

#include <cstdint>
#include <map>

/** The constant that an instruction has as compiled -> the one that it shall have. */
using Placeholders = std::map<uint32_t, uint64_t>;

/** Makes libbpf ask for placeholders when it loads a program of SEC("xdp") or SEC("syscall"). Once for the process. */
void register_placeholder_handlers();

/** While one of these lives, programs that this thread loads have these placeholders filled. */
class FillingPlaceholders
{
      public:
	explicit FillingPlaceholders(const Placeholders &values);
	~FillingPlaceholders();
	FillingPlaceholders(const FillingPlaceholders &) = delete;
	FillingPlaceholders &operator=(const FillingPlaceholders &) = delete;
};
