// SPDX-License-Identifier: Apache-2.0
// A map's memory as an ArrayBuffer.
#pragma once

#include "state.h"

#include <memory>
#include <napi.h>
#include <string>
#include <vector>

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

/** The mappings of a BpfMap: one of the whole at most, and any of parts. An ArrayBuffer keeps its memory alive; this
 * knows the buffer only weakly. */
class SharedMapping
{
      public:
	/** The buffer over all `size` bytes of the map `fd`: the one that exists, or a new one. */
	Napi::Value buffer(Napi::Env env, int fd, size_t size, const std::string &name);
	/** A new buffer over `size` bytes from `offset` on, which is the start of a page. */
	Napi::Value part(Napi::Env env, int fd, size_t offset, size_t size, const std::string &name);
	/** Detaches all buffers and unmaps their memory at once. Nothing where there is none. */
	void end();

      private:
	struct Region {
		Napi::Reference<Napi::ArrayBuffer> buffer;
		std::weak_ptr<Mapping> mapping;
		void end();
	};
	static Region map(Napi::Env env, int fd, size_t offset, size_t size, const std::string &name);

	Region whole_;
	std::vector<Region> parts_;
};
