// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "state.h"

#include <napi.h>
#include <vector>

/** Whole frames, out of any interface and in from all of them (AF_PACKET). */
class RawSocket : public Napi::ObjectWrap<RawSocket>
{
      public:
	static constexpr const char *class_name = "RawSocket";
	static const napi_type_tag tag;

	static void define(Napi::Env env);
	/** openRawSocket(filter). */
	static Napi::Value open(const Napi::CallbackInfo &info);

	explicit RawSocket(const Napi::CallbackInfo &info);

      private:
	void send(const Napi::CallbackInfo &info);
	Napi::Value read(const Napi::CallbackInfo &info);
	void close(const Napi::CallbackInfo &info);

	Handle handle_;
	std::vector<uint8_t> taken_;
};
