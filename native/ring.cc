// SPDX-License-Identifier: Apache-2.0
#include "ring.h"

#include "arguments.h"
#include "error.h"
#include "map.h"

#include <bpf/libbpf.h>
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <new>

const napi_type_tag BpfRing::tag = {0x786c622d72696e05, 0x8f2f6c0a41d94e05};

namespace
{
/** What take() answers to end libbpf's loop: enough is taken. */
constexpr int enough = -ECANCELED;
} // namespace

void BpfRing::define(Napi::Env env)
{
	State::of(env).ring = Napi::Persistent(DefineClass(env, class_name,
							   {
							       InstanceMethod<&BpfRing::read>("read"),
							       InstanceMethod<&BpfRing::close>("close"),
							   }));
}

Napi::Value BpfRing::open(const Napi::CallbackInfo &info)
{
	BpfMap &map = handle_argument<BpfMap>(info, 0, "map");
	Descriptor fd(fcntl(map.fd(info.Env(), "ring_buffer__new"), F_DUPFD_CLOEXEC, 0));
	if (fd.get() < 0)
		fail(info.Env(), errno, "fcntl", map.layout().name);
	return make_handle(State::of(info.Env()).ring, std::move(fd), map.layout().name);
}

BpfRing::BpfRing(const Napi::CallbackInfo &info) : Napi::ObjectWrap<BpfRing>(info), handle_(info, &Counters::rings)
{
	constexpr const char *call = "ring_buffer__new";
	LibbpfLog log;
	ring_ = ring_buffer__new(handle_.fd(info.Env(), call), take, this, nullptr);
	if (!ring_)
		fail(info.Env(), errno, call, handle_.name, log.text());
	info.This().As<Napi::Object>().TypeTag(&tag);
}

BpfRing::~BpfRing()
{
	end();
}

void BpfRing::end()
{
	ring_buffer__free(ring_);
	ring_ = nullptr;
}

/** Called by libbpf, through which no exception may pass. A record is taken out of the ring whatever this answers. */
int BpfRing::take(void *context, void *record, size_t size)
{
	auto *self = static_cast<BpfRing *>(context);
	try {
		size_t at = self->taken_.size(), padded = (size + 7) & ~size_t{7};
		self->taken_.resize(at + sizeof(uint64_t) + padded);
		uint64_t length = size;
		memcpy(self->taken_.data() + at, &length, sizeof(length));
		memcpy(self->taken_.data() + at + sizeof(length), record, size);
	} catch (const std::bad_alloc &) {
		self->out_of_memory_ = true;
		return enough;
	}
	return self->taken_.size() < self->wanted_ ? 0 : enough;
}

Napi::Value BpfRing::read(const Napi::CallbackInfo &info)
{
	constexpr const char *call = "ring_buffer__consume";
	Napi::Env env = info.Env();
	handle_.fd(env, call);
	wanted_ = uint32_argument(info, 0, "bytes");
	taken_.clear();
	out_of_memory_ = false;
	int result = ring_buffer__consume(ring_);
	if (result < 0 && result != enough)
		fail(env, result, call, handle_.name);
	if (out_of_memory_)
		fail(env, ENOMEM, call, handle_.name);
	return Napi::Buffer<uint8_t>::Copy(env, taken_.data(), taken_.size());
}

void BpfRing::close(const Napi::CallbackInfo &)
{
	end();
	handle_.close();
}
