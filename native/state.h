// SPDX-License-Identifier: Apache-2.0
// What the addon holds per environment (a worker thread is one of its own), and the descriptor behind each handle.
#pragma once

#include <memory>
#include <napi.h>
#include <optional>
#include <sched.h>
#include <set>
#include <string>

/** Handles and mappings open now. Shared, because finalizers may run after the environment's State is gone. */
struct Counters {
	uint32_t objects = 0;
	uint32_t maps = 0;
	uint32_t programs = 0;
	uint32_t links = 0;
	uint32_t rings = 0;
	uint32_t monitors = 0;
	uint32_t raw_sockets = 0;
	uint32_t mappings = 0;
	uint64_t mapped_bytes = 0;
};

struct State {
	std::shared_ptr<Counters> counters = std::make_shared<Counters>();
	Napi::FunctionReference object;
	Napi::FunctionReference map;
	Napi::FunctionReference program;
	Napi::FunctionReference link;
	Napi::FunctionReference ring;
	Napi::FunctionReference monitor;
	Napi::FunctionReference raw_socket;
	/** Descriptors that tryLock() gave out: unlock() closes these and no others. */
	std::set<int> locks;
	/** The CPUs this thread was allowed before pinToCpu(). */
	std::optional<cpu_set_t> unpinned;

	static State &of(Napi::Env env)
	{
		return *env.GetInstanceData<State>();
	}
};

/** An owned file descriptor. */
class Descriptor
{
      public:
	explicit Descriptor(int fd = -1) : fd_(fd)
	{
	}
	Descriptor(Descriptor &&other) noexcept : fd_(other.release())
	{
	}
	Descriptor &operator=(Descriptor &&other) noexcept;
	~Descriptor();
	int get() const
	{
		return fd_;
	}
	int release();

      private:
	int fd_;
};

/** What a handle's constructor is given, through an External: the descriptor, and what to call it in errors. */
struct Opened {
	Descriptor fd;
	std::string name;
};

/** The descriptor of one BpfMap, BpfProgram, BpfLink, BpfRing, RawSocket or NetlinkMonitor, counted while it is open.
 */
class Handle
{
      public:
	Handle(const Napi::CallbackInfo &info, uint32_t Counters::*kind);
	~Handle();
	Handle(const Handle &) = delete;
	Handle &operator=(const Handle &) = delete;
	/** The descriptor; throws EBADF in the name of `call` after close(). */
	int fd(Napi::Env env, const char *call) const;
	void pin(const Napi::CallbackInfo &info);
	void close();
	std::string name;

      private:
	Descriptor fd_;
	std::shared_ptr<Counters> counters_;
	uint32_t Counters::*kind_;
};

/** Makes a handle of `constructor` around a descriptor. */
Napi::Object make_handle(const Napi::FunctionReference &constructor, Descriptor fd, std::string name);

/** Opens the pin at `path` and demands that it is of `kind`: "bpf-map", "bpf-prog" or "bpf-link". */
Descriptor open_pin(Napi::Env env, const std::string &path, const char *kind);

/** A libbpf options structure, zeroed and sized (LIBBPF_OPTS is C only). */
template <typename T> T options()
{
	T result{};
	result.sz = sizeof(T);
	return result;
}

/** Calls again while a signal interrupts it. */
template <typename Call> auto retry(Call call)
{
	decltype(call()) result;
	do {
		result = call();
	} while (result < 0 && errno == EINTR);
	return result;
}
