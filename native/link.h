// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "state.h"

#include <napi.h>

class BpfLink : public Napi::ObjectWrap<BpfLink>
{
      public:
	static constexpr const char *class_name = "BpfLink";
	static const napi_type_tag tag;

	static void define(Napi::Env env);
	static Napi::Value open(const Napi::CallbackInfo &info);
	/** attachXdp(program, ifindex, mode). */
	static Napi::Value attach_xdp(const Napi::CallbackInfo &info);

	explicit BpfLink(const Napi::CallbackInfo &info);

      private:
	Napi::Value info(const Napi::CallbackInfo &info);
	void update(const Napi::CallbackInfo &info);
	void pin(const Napi::CallbackInfo &info);
	void detach(const Napi::CallbackInfo &info);
	void close(const Napi::CallbackInfo &info);

	Handle handle_;
};
