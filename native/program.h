// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "state.h"

#include <napi.h>

class BpfProgram : public Napi::ObjectWrap<BpfProgram>
{
      public:
	static constexpr const char *class_name = "BpfProgram";
	static const napi_type_tag tag;

	static void define(Napi::Env env);
	static Napi::Value open(const Napi::CallbackInfo &info);
	/** programInfo(id). */
	static Napi::Value info_by_id(const Napi::CallbackInfo &info);
	/** openProgramById(id). */
	static Napi::Value open_by_id(const Napi::CallbackInfo &info);

	explicit BpfProgram(const Napi::CallbackInfo &info);
	int fd(Napi::Env env, const char *call) const
	{
		return handle_.fd(env, call);
	}

      private:
	Napi::Value info(const Napi::CallbackInfo &info);
	Napi::Value instructions(const Napi::CallbackInfo &info);
	Napi::Value run(const Napi::CallbackInfo &info);
	void pin(const Napi::CallbackInfo &info);
	void close(const Napi::CallbackInfo &info);

	Handle handle_;
	/** enum bpf_prog_type. */
	uint32_t type_;
};
