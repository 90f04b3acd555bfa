// SPDX-License-Identifier: Apache-2.0
#include "raw_socket.h"

#include "arguments.h"
#include "error.h"

#include <arpa/inet.h>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <linux/filter.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <poll.h>
#include <sys/socket.h>

const napi_type_tag RawSocket::tag = {0x786c622d72617706, 0x4b1d6f0a92c35e06};

namespace
{
constexpr uint32_t longest_wait_ms = 10000;
constexpr uint32_t most_frames = 65536;
/** As much of a frame as is taken; a filter may take less. */
constexpr size_t frame_bytes = 2048;
constexpr int receive_buffer_bytes = 4 << 20;

/** What comes before a frame's octets in read()'s answer, which are made a multiple of 8. */
struct Record {
	uint32_t ifindex;
	uint32_t length;
};

struct Kept {
	int level;
	int name;
	const void *value;
	socklen_t size;
	const char *call;
};

void set_options(Napi::Env env, const Descriptor &fd, const Bytes &filter)
{
	int on = 1;
	sock_fprog program{static_cast<unsigned short>(filter.size / sizeof(sock_filter)),
			   const_cast<sock_filter *>(reinterpret_cast<const sock_filter *>(filter.data))};
	const Kept options[] = {
	    {SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program), "SO_ATTACH_FILTER"},
	    {SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on), "PACKET_IGNORE_OUTGOING"},
	    {SOL_SOCKET, SO_RCVBUFFORCE, &receive_buffer_bytes, sizeof(receive_buffer_bytes), "SO_RCVBUFFORCE"},
	};
	for (const Kept &option : options)
		if (setsockopt(fd.get(), option.level, option.name, option.value, option.size) < 0)
			fail(env, errno, option.call, "packet socket");
}

sockaddr_ll link_address(int ifindex)
{
	sockaddr_ll address{};
	address.sll_family = AF_PACKET;
	address.sll_protocol = htons(ETH_P_ALL);
	address.sll_ifindex = ifindex;
	return address;
}

/** Waits until there is a frame; false: none has come in time. */
bool wait_for_frame(Napi::Env env, int fd, uint32_t wait_ms)
{
	using Clock = std::chrono::steady_clock;
	Clock::time_point end = Clock::now() + std::chrono::milliseconds(wait_ms);
	for (;;) {
		auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now()).count();
		pollfd watched{fd, POLLIN, 0};
		int ready = poll(&watched, 1, static_cast<int>(left > 0 ? left : 0));
		if (ready >= 0)
			return ready > 0;
		if (errno != EINTR)
			fail(env, errno, "poll", "packet socket");
	}
}
} // namespace

void RawSocket::define(Napi::Env env)
{
	State::of(env).raw_socket = Napi::Persistent(DefineClass(env, class_name,
								 {
								     InstanceMethod<&RawSocket::send>("send"),
								     InstanceMethod<&RawSocket::read>("read"),
								     InstanceMethod<&RawSocket::close>("close"),
								 }));
}

Napi::Value RawSocket::open(const Napi::CallbackInfo &info)
{
	Napi::Env env = info.Env();
	Bytes filter = bytes_argument(info, 0, "filter");
	if (filter.size == 0 || filter.size % sizeof(sock_filter) != 0 ||
	    filter.size / sizeof(sock_filter) > BPF_MAXINSNS)
		throw Napi::RangeError::New(env, "filter must be 1 to 4096 instructions of 8 octets");
	// Without a protocol it hears nothing until its filter is there.
	Descriptor fd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
	if (fd.get() < 0)
		fail(env, errno, "socket", "packet socket");
	set_options(env, fd, filter);
	sockaddr_ll everywhere = link_address(0);
	if (bind(fd.get(), reinterpret_cast<sockaddr *>(&everywhere), sizeof(everywhere)) < 0)
		fail(env, errno, "bind", "packet socket");
	return make_handle(State::of(env).raw_socket, std::move(fd), "packet socket");
}

RawSocket::RawSocket(const Napi::CallbackInfo &info)
    : Napi::ObjectWrap<RawSocket>(info), handle_(info, &Counters::raw_sockets)
{
	info.This().As<Napi::Object>().TypeTag(&tag);
}

void RawSocket::send(const Napi::CallbackInfo &info)
{
	constexpr const char *call = "sendto";
	int fd = handle_.fd(info.Env(), call);
	int32_t ifindex = int32_argument(info, 0, "ifindex");
	Bytes frame = bytes_argument(info, 1, "frame");
	sockaddr_ll to = link_address(ifindex);
	auto *address = reinterpret_cast<const sockaddr *>(&to);
	if (retry([&] { return ::sendto(fd, frame.data, frame.size, 0, address, sizeof(to)); }) < 0)
		fail(info.Env(), errno, call, "interface " + std::to_string(ifindex));
}

Napi::Value RawSocket::read(const Napi::CallbackInfo &info)
{
	constexpr const char *call = "recvfrom";
	Napi::Env env = info.Env();
	int fd = handle_.fd(env, call);
	uint32_t wait_ms = uint32_argument(info, 0, "waitMs");
	uint32_t most = uint32_argument(info, 1, "most");
	if (wait_ms > longest_wait_ms || most > most_frames)
		throw Napi::RangeError::New(env, "waitMs must be at most 10000, and most at most 65536");
	taken_.clear();
	if (most > 0 && !wait_for_frame(env, fd, wait_ms))
		most = 0;
	for (uint32_t count = 0; count < most; count++) {
		uint8_t frame[frame_bytes];
		sockaddr_ll from{};
		socklen_t size = sizeof(from);
		ssize_t length = retry([&] {
			return ::recvfrom(fd, frame, sizeof(frame), 0, reinterpret_cast<sockaddr *>(&from), &size);
		});
		// An interface that goes down is told here, and no reason to hear the others no more.
		if (length < 0 && errno == ENETDOWN)
			continue;
		if (length < 0 && errno == EAGAIN)
			break;
		if (length < 0)
			fail(env, errno, call, handle_.name);
		Record record{static_cast<uint32_t>(from.sll_ifindex), static_cast<uint32_t>(length)};
		size_t at = taken_.size();
		taken_.resize(at + sizeof(record) + ((length + 7) & ~ssize_t{7}));
		memcpy(taken_.data() + at, &record, sizeof(record));
		memcpy(taken_.data() + at + sizeof(record), frame, length);
	}
	return Napi::Buffer<uint8_t>::Copy(env, taken_.data(), taken_.size());
}

void RawSocket::close(const Napi::CallbackInfo &)
{
	handle_.close();
}
