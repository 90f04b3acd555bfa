// SPDX-License-Identifier: Apache-2.0
// Locks, barriers, mounts, time, CPUs and words to the service manager.
#include "system.h"

#include "arguments.h"
#include "error.h"
#include "ethtool.h"
#include "state.h"

#include <bpf/libbpf.h>
#include <cstddef>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <fcntl.h>
#include <linux/magic.h>
#include <linux/membarrier.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <unistd.h>

namespace
{
/** A file that root makes in another user's folder is that user's: verbs of both take turns. */
void give_to_owner_of_folder(int fd, const std::string &path)
{
	struct stat folder;
	std::string name = path.substr(0, path.rfind('/') + 1);
	if (geteuid() != 0 || stat(name.empty() ? "." : name.c_str(), &folder) < 0 || folder.st_uid == 0)
		return;
	if (fchown(fd, folder.st_uid, folder.st_gid) < 0)
		return; // Then it stays root's, and the other user is told so by its own open().
}

/** Made only where nothing is there, and no link is followed: the folder may be that of somebody who means harm. */
Descriptor open_lock(const std::string &path)
{
	const int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW;
	for (;;) {
		Descriptor there(retry([&] { return ::open(path.c_str(), flags); }));
		if (there.get() >= 0 || errno != ENOENT)
			return there;
		Descriptor made(retry([&] { return ::open(path.c_str(), flags | O_CREAT | O_EXCL, 0600); }));
		if (made.get() >= 0)
			give_to_owner_of_folder(made.get(), path);
		if (made.get() >= 0 || errno != EEXIST)
			return made;
	}
}

Napi::Value try_lock(const Napi::CallbackInfo &info)
{
	Napi::Env env = info.Env();
	std::string path = text_argument(info, 0, "path");
	Descriptor fd = open_lock(path);
	if (fd.get() < 0)
		fail(env, errno, "open", path);
	if (retry([&] { return flock(fd.get(), LOCK_EX | LOCK_NB); }) < 0) {
		if (errno == EWOULDBLOCK)
			return Napi::Number::New(env, -1);
		fail(env, errno, "flock", path);
	}
	int held = fd.release();
	State::of(env).locks.insert(held);
	return Napi::Number::New(env, held);
}

void unlock(const Napi::CallbackInfo &info)
{
	int32_t descriptor = int32_argument(info, 0, "descriptor");
	if (State::of(info.Env()).locks.erase(descriptor) == 0)
		fail(info.Env(), EBADF, "unlock", std::to_string(descriptor), "no lock is held by it");
	::close(descriptor);
}

void wait_for_programs(const Napi::CallbackInfo &info)
{
	if (retry([] { return syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0); }) < 0)
		fail(info.Env(), errno, "membarrier", "MEMBARRIER_CMD_GLOBAL");
}

void mount_bpf(const Napi::CallbackInfo &info)
{
	std::string path = text_argument(info, 0, "path");
	if (mount("bpf", path.c_str(), "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") < 0)
		fail(info.Env(), errno, "mount", path);
}

Napi::Value is_bpf_file_system(const Napi::CallbackInfo &info)
{
	std::string path = text_argument(info, 0, "path");
	struct statfs found;
	if (retry([&] { return statfs(path.c_str(), &found); }) < 0)
		fail(info.Env(), errno, "statfs", path);
	return Napi::Boolean::New(info.Env(), static_cast<uint32_t>(found.f_type) == BPF_FS_MAGIC);
}

void exchange(const Napi::CallbackInfo &info)
{
	std::string a = text_argument(info, 0, "a");
	std::string b = text_argument(info, 1, "b");
	if (renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE) < 0)
		fail(info.Env(), errno, "renameat2", a + " " + b);
}

Napi::Value jiffies_per_second(const Napi::CallbackInfo &info)
{
	timespec tick;
	if (clock_getres(CLOCK_MONOTONIC_COARSE, &tick) < 0)
		fail(info.Env(), errno, "clock_getres", "CLOCK_MONOTONIC_COARSE");
	// A tick of 1/300 s is not a whole number of nanoseconds: round.
	return Napi::Number::New(info.Env(), static_cast<double>((1000000000 + tick.tv_nsec / 2) / tick.tv_nsec));
}

Napi::Value possible_cpus(const Napi::CallbackInfo &info)
{
	int cpus = libbpf_num_possible_cpus();
	if (cpus < 0)
		fail(info.Env(), cpus, "libbpf_num_possible_cpus", "cpus");
	return Napi::Number::New(info.Env(), cpus);
}

void pin_to_cpu(const Napi::CallbackInfo &info)
{
	Napi::Env env = info.Env();
	std::optional<cpu_set_t> &unpinned = State::of(env).unpinned;
	int32_t cpu = int32_argument(info, 0, "cpu");
	std::string object = "cpu " + std::to_string(cpu);
	if (cpu < -1 || cpu >= CPU_SETSIZE)
		fail(env, EINVAL, "sched_setaffinity", object);
	if (cpu == -1) {
		if (unpinned && sched_setaffinity(0, sizeof(*unpinned), &*unpinned) < 0)
			fail(env, errno, "sched_setaffinity", object);
		unpinned.reset();
		return;
	}

	cpu_set_t before, wanted;
	if (sched_getaffinity(0, sizeof(before), &before) < 0)
		fail(env, errno, "sched_getaffinity", object);
	CPU_ZERO(&wanted);
	CPU_SET(cpu, &wanted);
	if (sched_setaffinity(0, sizeof(wanted), &wanted) < 0)
		fail(env, errno, "sched_setaffinity", object);
	if (!unpinned)
		unpinned = before;
}

void send_datagram(const Napi::CallbackInfo &info)
{
	Napi::Env env = info.Env();
	std::string path = text_argument(info, 0, "path");
	std::string text = text_argument(info, 1, "text");
	sockaddr_un to{};
	to.sun_family = AF_UNIX;
	if (path.empty() || path.size() >= sizeof(to.sun_path))
		fail(env, ENAMETOOLONG, "sendto", path);
	memcpy(to.sun_path, path.data(), path.size());
	// unix(7): an abstract address begins with a zero, and has no more octets than its length says.
	if (path[0] == '@')
		to.sun_path[0] = 0;
	socklen_t size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());

	Descriptor fd(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	if (fd.get() < 0)
		fail(env, errno, "socket", path);
	// A receiver whose queue is full must not stop this thread.
	if (retry([&] {
		    return sendto(fd.get(), text.data(), text.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
				  reinterpret_cast<sockaddr *>(&to), size);
	    }) < 0)
		fail(env, errno, "sendto", path);
}
} // namespace

Napi::Object make_system(Napi::Env env)
{
	Napi::Object system = Napi::Object::New(env);
	system.Set("tryLock", Napi::Function::New<try_lock>(env, "tryLock"));
	system.Set("unlock", Napi::Function::New<unlock>(env, "unlock"));
	system.Set("waitForPrograms", Napi::Function::New<wait_for_programs>(env, "waitForPrograms"));
	system.Set("mountBpf", Napi::Function::New<mount_bpf>(env, "mountBpf"));
	system.Set("isBpfFileSystem", Napi::Function::New<is_bpf_file_system>(env, "isBpfFileSystem"));
	system.Set("exchange", Napi::Function::New<exchange>(env, "exchange"));
	system.Set("jiffiesPerSecond", Napi::Function::New<jiffies_per_second>(env, "jiffiesPerSecond"));
	system.Set("possibleCpus", Napi::Function::New<possible_cpus>(env, "possibleCpus"));
	system.Set("pinToCpu", Napi::Function::New<pin_to_cpu>(env, "pinToCpu"));
	system.Set("sendDatagram", Napi::Function::New<send_datagram>(env, "sendDatagram"));
	system.Set("deviceFeatures", Napi::Function::New<device_features>(env, "deviceFeatures"));
	system.Set("deviceDriver", Napi::Function::New<device_driver>(env, "deviceDriver"));
	system.Set("deviceReceiveChannels", Napi::Function::New<device_receive_channels>(env, "deviceReceiveChannels"));
	return system;
}
