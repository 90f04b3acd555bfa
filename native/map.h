// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "mapping.h"
#include "state.h"

#include <linux/bpf.h>
#include <napi.h>

class BpfMap : public Napi::ObjectWrap<BpfMap>
{
      public:
	static constexpr const char *class_name = "BpfMap";
	static const napi_type_tag tag;

	static void define(Napi::Env env);
	static Napi::Value open(const Napi::CallbackInfo &info);
	static Napi::Value create(const Napi::CallbackInfo &info);

	explicit BpfMap(const Napi::CallbackInfo &info);
	int fd(Napi::Env env, const char *call) const
	{
		return handle_.fd(env, call);
	}
	const bpf_map_info &layout() const
	{
		return info_;
	}

      private:
	Napi::Value info(const Napi::CallbackInfo &info);
	Napi::Value lookup(const Napi::CallbackInfo &info);
	void update(const Napi::CallbackInfo &info);
	Napi::Value remove(const Napi::CallbackInfo &info);
	Napi::Value lookup_batch(const Napi::CallbackInfo &info);
	void update_batch(const Napi::CallbackInfo &info);
	Napi::Value mmap(const Napi::CallbackInfo &info);
	Napi::Value mmap_part(const Napi::CallbackInfo &info);
	void unmap(const Napi::CallbackInfo &info);
	void pin(const Napi::CallbackInfo &info);
	void close(const Napi::CallbackInfo &info);

	/** Bytes of one value as BPF_MAP_LOOKUP_ELEM writes it. */
	size_t value_bytes(Napi::Env env) const;
	/** Bytes of all values, as mmap() lays them out. */
	size_t mapped_bytes() const;
	/** The descriptor, where the map can be mapped. */
	int mappable_fd(Napi::Env env) const;
	void check_size(Napi::Env env, const char *call, const char *what, size_t size, size_t expected) const;

	Handle handle_;
	bpf_map_info info_{};
	SharedMapping mapping_;
};
