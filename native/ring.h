// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "state.h"

#include <napi.h>
#include <vector>

struct ring_buffer;

/** The reading end of a BPF ring buffer. */
class BpfRing : public Napi::ObjectWrap<BpfRing>
{
      public:
	static constexpr const char *class_name = "BpfRing";
	static const napi_type_tag tag;

	static void define(Napi::Env env);
	/** openRing(map). */
	static Napi::Value open(const Napi::CallbackInfo &info);

	explicit BpfRing(const Napi::CallbackInfo &info);
	~BpfRing();

      private:
	Napi::Value read(const Napi::CallbackInfo &info);
	void close(const Napi::CallbackInfo &info);

	static int take(void *self, void *record, size_t size);
	void end();

	Handle handle_;
	ring_buffer *ring_ = nullptr;
	/** What read() has taken so far, and as much as it wants. */
	std::vector<uint8_t> taken_;
	size_t wanted_ = 0;
	bool out_of_memory_ = false;
};
