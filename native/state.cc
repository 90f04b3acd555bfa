// SPDX-License-Identifier: Apache-2.0
#include "state.h"

#include "arguments.h"
#include "error.h"

#include <algorithm>
#include <bpf/bpf.h>
#include <unistd.h>

Descriptor &Descriptor::operator=(Descriptor &&other) noexcept
{
	std::swap(fd_, other.fd_);
	return *this;
}

Descriptor::~Descriptor()
{
	// No retry: on Linux the descriptor is free even where close() answers EINTR.
	if (fd_ >= 0)
		::close(fd_);
}

int Descriptor::release()
{
	int fd = fd_;
	fd_ = -1;
	return fd;
}

Handle::Handle(const Napi::CallbackInfo &info, uint32_t Counters::*kind)
    : counters_(State::of(info.Env()).counters), kind_(kind)
{
	// The class can be reached from JavaScript as handle.constructor.
	if (!info[0].IsExternal())
		throw Napi::TypeError::New(info.Env(), "Illegal constructor");
	auto *opened = info[0].As<Napi::External<Opened>>().Data();
	name = opened->name;
	fd_ = std::move(opened->fd);
	(*counters_).*kind_ += 1;
}

Handle::~Handle()
{
	close();
}

int Handle::fd(Napi::Env env, const char *call) const
{
	if (fd_.get() < 0)
		fail(env, EBADF, call, name);
	return fd_.get();
}

void Handle::pin(const Napi::CallbackInfo &info)
{
	int descriptor = fd(info.Env(), "bpf_obj_pin");
	std::string path = text_argument(info, 0, "path");
	if (bpf_obj_pin(descriptor, path.c_str()) < 0)
		fail(info.Env(), errno, "bpf_obj_pin", path);
}

void Handle::close()
{
	if (fd_.get() < 0)
		return;
	::close(fd_.release());
	(*counters_).*kind_ -= 1;
}

Napi::Object make_handle(const Napi::FunctionReference &constructor, Descriptor fd, std::string name)
{
	Opened opened{std::move(fd), std::move(name)};
	return constructor.New({Napi::External<Opened>::New(constructor.Env(), &opened)});
}

Descriptor open_pin(Napi::Env env, const std::string &path, const char *kind)
{
	Descriptor fd(bpf_obj_get(path.c_str()));
	if (fd.get() < 0)
		fail(env, errno, "bpf_obj_get", path);

	// BPF_OBJ_GET answers whatever is pinned, and BPF_OBJ_GET_INFO_BY_FD does not say what that is.
	char target[64] = "";
	std::string self = "/proc/self/fd/" + std::to_string(fd.get());
	if (readlink(self.c_str(), target, sizeof(target) - 1) < 0)
		fail(env, errno, "readlink", self);
	std::string found = target;
	found.erase(0, found.find(':') + 1);
	std::replace(found.begin(), found.end(), '_', '-');
	if (found != kind)
		fail(env, EINVAL, "bpf_obj_get", path, "it is a " + found + ", not a " + kind);
	return fd;
}
