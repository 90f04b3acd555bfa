// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "placeholders.h"
#include "state.h"

#include <bpf/libbpf.h>
#include <napi.h>
#include <utility>
#include <vector>

class BpfObject : public Napi::ObjectWrap<BpfObject>
{
      public:
	static constexpr const char *class_name = "BpfObject";
	static const napi_type_tag tag;

	static void define(Napi::Env env);
	static Napi::Value open(const Napi::CallbackInfo &info);

	explicit BpfObject(const Napi::CallbackInfo &info);
	~BpfObject();

      private:
	Napi::Value map_names(const Napi::CallbackInfo &info);
	Napi::Value program_names(const Napi::CallbackInfo &info);
	void set_max_entries(const Napi::CallbackInfo &info);
	void reuse_map(const Napi::CallbackInfo &info);
	void set_constant(const Napi::CallbackInfo &info);
	void fill_placeholder(const Napi::CallbackInfo &info);
	void set_autoload(const Napi::CallbackInfo &info);
	void set_multi_buffer(const Napi::CallbackInfo &info);
	void load(const Napi::CallbackInfo &info);
	Napi::Value map(const Napi::CallbackInfo &info);
	Napi::Value program(const Napi::CallbackInfo &info);
	void close(const Napi::CallbackInfo &info);

	void close();
	/** Throws EBADF after close(). */
	void check_open(Napi::Env env, const char *call) const;
	/** Throws also EBUSY after load(), whether that succeeded or not. */
	void check_unloaded(Napi::Env env, const char *call) const;
	bpf_map *find_map(Napi::Env env, const std::string &name) const;
	bpf_program *find_program(Napi::Env env, const std::string &name) const;

	std::string path_;
	bpf_object *object_ = nullptr;
	bool load_tried_ = false;
	Placeholders placeholders_;
	/** By their names when opened: bpf_map__reuse_fd() renames a map to what the kernel calls the other. */
	std::vector<std::pair<std::string, bpf_map *>> maps_;
	std::shared_ptr<Counters> counters_;
};
