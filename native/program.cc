// SPDX-License-Identifier: Apache-2.0
#include "program.h"

#include "arguments.h"
#include "error.h"

#include <bpf/bpf.h>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

const napi_type_tag BpfProgram::tag = {0x786c622d70726702, 0x8f2f6c0a41d94e02};

namespace
{
/** What a program may add to a frame by bpf_xdp_adjust_head and _tail is less than one page. */
constexpr size_t frame_growth = 4096;

bpf_prog_info info_of(Napi::Env env, int fd, const std::string &name)
{
	bpf_prog_info info{};
	uint32_t length = sizeof(info);
	if (bpf_obj_get_info_by_fd(fd, &info, &length) < 0)
		fail(env, errno, "bpf_obj_get_info_by_fd", name);
	return info;
}

Napi::Object to_object(Napi::Env env, const bpf_prog_info &info)
{
	char tag[2 * sizeof(info.tag) + 1];
	for (size_t i = 0; i < sizeof(info.tag); i++)
		snprintf(tag + 2 * i, 3, "%02x", info.tag[i]);

	Napi::Object result = Napi::Object::New(env);
	result.Set("id", info.id);
	result.Set("name", std::string(info.name, strnlen(info.name, sizeof(info.name))));
	result.Set("tag", tag);
	result.Set("loadedNs", Napi::BigInt::New(env, uint64_t{info.load_time}));
	result.Set("jitedBytes", info.jited_prog_len);
	result.Set("runCount", Napi::BigInt::New(env, uint64_t{info.run_cnt}));
	result.Set("runTimeNs", Napi::BigInt::New(env, uint64_t{info.run_time_ns}));
	return result;
}

/** Keeps signals from this thread. A pending one ends BPF_PROG_TEST_RUN with EINTR, after some of its repeats. */
class SignalsBlocked
{
      public:
	SignalsBlocked()
	{
		sigset_t all;
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &before_);
	}
	~SignalsBlocked()
	{
		pthread_sigmask(SIG_SETMASK, &before_, nullptr);
	}

      private:
	sigset_t before_;
};

bool flag_of(const Napi::Object &options, const char *name)
{
	Napi::Value value = options.Get(name);
	if (value.IsUndefined())
		return false;
	if (!value.IsBoolean())
		wrong_type(value.Env(), name, "a boolean");
	return value.As<Napi::Boolean>().Value();
}

uint32_t number_of(const Napi::Object &options, const char *name, uint32_t absent)
{
	Napi::Value value = options.Get(name);
	return value.IsUndefined() ? absent : to_uint32(value, name);
}

/** A copy: reading the next property may run JavaScript, which may detach this one. */
std::vector<uint8_t> bytes_of(const Napi::Object &options, const char *name)
{
	Napi::Value value = options.Get(name);
	if (value.IsUndefined())
		return {};
	Bytes bytes = to_bytes(value, name);
	return std::vector<uint8_t>(bytes.data, bytes.data + bytes.size);
}
} // namespace

void BpfProgram::define(Napi::Env env)
{
	State::of(env).program =
	    Napi::Persistent(DefineClass(env, class_name,
					 {
					     InstanceMethod<&BpfProgram::run>("run"),
					     InstanceMethod<&BpfProgram::instructions>("instructions"),
					     InstanceMethod<&BpfProgram::pin>("pin"),
					     InstanceMethod<&BpfProgram::close>("close"),
					 }));
	define_getter<BpfProgram, &BpfProgram::info>(State::of(env).program, "info");
}

Napi::Value BpfProgram::open(const Napi::CallbackInfo &info)
{
	std::string path = text_argument(info, 0, "path");
	return make_handle(State::of(info.Env()).program, open_pin(info.Env(), path, "bpf-prog"), path);
}

Napi::Value BpfProgram::info_by_id(const Napi::CallbackInfo &info)
{
	uint32_t id = uint32_argument(info, 0, "id");
	Descriptor fd(bpf_prog_get_fd_by_id(id));
	if (fd.get() < 0) {
		if (errno == ENOENT)
			return info.Env().Undefined();
		fail(info.Env(), errno, "bpf_prog_get_fd_by_id", std::to_string(id));
	}
	return to_object(info.Env(), info_of(info.Env(), fd.get(), std::to_string(id)));
}

Napi::Value BpfProgram::open_by_id(const Napi::CallbackInfo &info)
{
	uint32_t id = uint32_argument(info, 0, "id");
	Descriptor fd(bpf_prog_get_fd_by_id(id));
	if (fd.get() < 0)
		fail(info.Env(), errno, "bpf_prog_get_fd_by_id", std::to_string(id));
	return make_handle(State::of(info.Env()).program, std::move(fd), std::to_string(id));
}

BpfProgram::BpfProgram(const Napi::CallbackInfo &info)
    : Napi::ObjectWrap<BpfProgram>(info), handle_(info, &Counters::programs)
{
	type_ = info_of(info.Env(), handle_.fd(info.Env(), "info"), handle_.name).type;
	info.This().As<Napi::Object>().TypeTag(&tag);
}

Napi::Value BpfProgram::info(const Napi::CallbackInfo &info)
{
	return to_object(info.Env(), info_of(info.Env(), handle_.fd(info.Env(), "info"), handle_.name));
}

Napi::Value BpfProgram::instructions(const Napi::CallbackInfo &info)
{
	constexpr const char *call = "bpf_obj_get_info_by_fd";
	Napi::Env env = info.Env();
	int fd = handle_.fd(env, call);
	std::vector<uint8_t> bytes(info_of(env, fd, handle_.name).xlated_prog_len);
	bpf_prog_info wanted{};
	uint32_t length = sizeof(wanted);
	wanted.xlated_prog_insns = reinterpret_cast<uintptr_t>(bytes.data());
	wanted.xlated_prog_len = static_cast<uint32_t>(bytes.size());
	if (bpf_obj_get_info_by_fd(fd, &wanted, &length) < 0)
		fail(env, errno, call, handle_.name);
	// The kernel shows none to those who may not see them: then it has set the length, or the address, to 0.
	if (bytes.empty() || wanted.xlated_prog_len != bytes.size() || !wanted.xlated_prog_insns)
		fail(env, EPERM, call, handle_.name, "the kernel does not show its instructions");
	return Napi::Buffer<uint8_t>::Copy(env, bytes.data(), bytes.size());
}

Napi::Value BpfProgram::run(const Napi::CallbackInfo &info)
{
	constexpr const char *call = "bpf_prog_test_run_opts";
	Napi::Env env = info.Env();
	if (!info[0].IsObject())
		wrong_type(env, "options", "an object");
	Napi::Object wanted = info[0].As<Napi::Object>();
	std::vector<uint8_t> data = bytes_of(wanted, "data");
	std::vector<uint8_t> context = bytes_of(wanted, "context");
	bool live = flag_of(wanted, "liveFrames");
	bool is_syscall = type_ == BPF_PROG_TYPE_SYSCALL;
	size_t room = live || data.empty() ? 0 : data.size() + frame_growth;
	std::unique_ptr<uint8_t[]> data_out(room ? new uint8_t[room] : nullptr);
	std::vector<uint8_t> context_out(live || is_syscall ? 0 : context.size());

	auto opts = options<bpf_test_run_opts>();
	opts.data_in = data.empty() ? nullptr : data.data();
	opts.data_size_in = static_cast<uint32_t>(data.size());
	opts.data_out = data_out.get();
	opts.data_size_out = static_cast<uint32_t>(room);
	opts.ctx_in = context.empty() ? nullptr : context.data();
	opts.ctx_size_in = static_cast<uint32_t>(context.size());
	opts.ctx_out = context_out.empty() ? nullptr : context_out.data();
	opts.ctx_size_out = static_cast<uint32_t>(context_out.size());
	// The kernel refuses a repeat count for syscall programs.
	uint32_t repeat = number_of(wanted, "repeat", 1);
	if (repeat > INT32_MAX)
		fail(env, EINVAL, call, handle_.name, "repeat exceeds 2147483647");
	opts.repeat = is_syscall && repeat == 1 ? 0 : static_cast<int>(repeat);
	opts.flags = live ? BPF_F_TEST_XDP_LIVE_FRAMES : 0;
	opts.batch_size = number_of(wanted, "batchSize", 0);
	// Last: reading the options may have run JavaScript that closed this handle.
	int fd = handle_.fd(env, call);

	int error;
	{
		SignalsBlocked blocked;
		// Live frames have left already: to run again would send them twice.
		do {
			error = bpf_prog_test_run_opts(fd, &opts) < 0 ? errno : 0;
		} while (error == EINTR && !live);
	}
	if (error)
		fail(env, error, call, handle_.name);

	// A syscall program's argument is written back to where it was read.
	const std::vector<uint8_t> &left = is_syscall ? context : context_out;
	size_t left_size = is_syscall ? context.size() : opts.ctx_size_out;
	Napi::Object result = Napi::Object::New(env);
	result.Set("returned", opts.retval);
	result.Set("durationNs", opts.duration);
	result.Set("data", Napi::Buffer<uint8_t>::Copy(env, data_out.get(), room ? opts.data_size_out : 0));
	result.Set("context", Napi::Buffer<uint8_t>::Copy(env, left.data(), left.empty() ? 0 : left_size));
	return result;
}

void BpfProgram::pin(const Napi::CallbackInfo &info)
{
	handle_.pin(info);
}

void BpfProgram::close(const Napi::CallbackInfo &)
{
	handle_.close();
}
