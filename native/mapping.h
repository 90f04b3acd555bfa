// SPDX-License-Identifier: Apache-2.0
// A map's memory as an ArrayBuffer.
#pragma once

#include "state.h"

#include <memory>
#include <napi.h>
#include <string>

/** One mmap()ed region. Ends exactly once: by unmap(), or by the last owner. */
class Mapping
{
      public:
	Mapping(void *address, size_t length, std::shared_ptr<Counters> counters);
	~Mapping();
	Mapping(const Mapping &) = delete;
	Mapping &operator=(const Mapping &) = delete;
	void unmap();

      private:
	void *address_;
	size_t length_;
	std::shared_ptr<Counters> counters_;
};

/** The at most one mapping that a BpfMap has. The ArrayBuffer keeps the memory alive; this knows the buffer only
 * weakly. */
class SharedMapping
{
      public:
	/** The buffer over `size` bytes of the map `fd`: the one that exists, or a new one. */
	Napi::Value buffer(Napi::Env env, int fd, size_t size, const std::string &name);
	/** Detaches the buffer and unmaps its memory at once. Nothing where there is none. */
	void end();

      private:
	Napi::Reference<Napi::ArrayBuffer> buffer_;
	std::weak_ptr<Mapping> mapping_;
};
