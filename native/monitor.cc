// SPDX-License-Identifier: Apache-2.0
#include "monitor.h"

#include "arguments.h"
#include "error.h"
#include "messages.h"

#include <cerrno>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>
#include <uv.h>

const napi_type_tag NetlinkMonitor::tag = {0x786c622d6d6f6e06, 0x8f2f6c0a41d94e06};

/** The loop's end of a monitor. libuv has it until its own callback says that it is closed. */
struct MonitorPoll {
	uv_poll_t handle{};
	/** nullptr once the monitor is closed. */
	NetlinkMonitor *owner = nullptr;
	/** Ends the monitor where its environment ends first. */
	napi_async_cleanup_hook_handle hook = nullptr;
};

namespace
{
constexpr const char *source = "rtnetlink";
constexpr int groups[] = {RTNLGRP_LINK,        RTNLGRP_NEIGH,      RTNLGRP_IPV4_IFADDR,
			  RTNLGRP_IPV6_IFADDR, RTNLGRP_IPV4_ROUTE, RTNLGRP_IPV6_ROUTE};
/** Room for what the kernel tells while JavaScript is at work: some 4,000 messages. Taken only as they come. */
constexpr uint32_t default_receive_bytes = 4 << 20;
/** A link's message, which is the longest, has some 2 KiB, and more with many virtual functions. */
constexpr size_t longest_message = 1 << 16;
/** Datagrams that are taken in one turn of the loop: a storm must not keep everything else waiting. */
constexpr int datagrams_per_turn = 1024;

Descriptor subscribe(Napi::Env env, uint32_t receive_bytes)
{
	Descriptor fd(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_ROUTE));
	if (fd.get() < 0)
		fail(env, errno, "socket", source);
	int bytes = static_cast<int>(receive_bytes);
	// Beyond net.core.rmem_max only with CAP_NET_ADMIN; what is too little is told as an overrun.
	if (setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUFFORCE, &bytes, sizeof(bytes)) < 0)
		setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
	sockaddr_nl self{};
	self.nl_family = AF_NETLINK;
	if (bind(fd.get(), reinterpret_cast<const sockaddr *>(&self), sizeof(self)) < 0)
		fail(env, errno, "bind", source);
	for (int group : groups)
		if (setsockopt(fd.get(), SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, &group, sizeof(group)) < 0)
			fail(env, errno, "NETLINK_ADD_MEMBERSHIP", source, "group " + std::to_string(group));
	return fd;
}

Napi::Object to_event(Napi::Env env, const char *kind)
{
	Napi::Object event = Napi::Object::New(env);
	event.Set("kind", kind);
	return event;
}

Napi::Object to_event(Napi::Env env, const char *kind, bool deleted, const Napi::Object &what)
{
	Napi::Object event = to_event(env, kind);
	event.Set("deleted", deleted);
	event.Set(kind, what);
	return event;
}

Napi::Object to_route(Napi::Env env, const rtmsg &header, const Attributes &attributes)
{
	const char *any = header.rtm_family == AF_INET ? "0.0.0.0" : "::";
	Napi::Object route = Napi::Object::New(env);
	route.Set("destination",
		  attributes[RTA_DST] ? address_text(header.rtm_family, attributes[RTA_DST]) : std::string(any));
	route.Set("prefixLength", header.rtm_dst_len);
	route.Set("type", route_type(header.rtm_type));
	route.Set("table", attributes.u32(RTA_TABLE, header.rtm_table));
	route.Set("ifindex", attributes.u32(RTA_OIF));
	route.Set("gateway", gateway_of(header.rtm_family, attributes));
	return route;
}

/** The event that a message tells; undefined: none. */
Napi::Value event_of(Napi::Env env, const nlmsghdr *message)
{
	size_t size = mnl_nlmsg_get_payload_len(message);
	switch (message->nlmsg_type) {
	case RTM_NEWNEIGH:
	case RTM_DELNEIGH:
		// A bridge's forwarding table comes the same way.
		if (size < sizeof(ndmsg) || !is_of_ip(message))
			break;
		return to_event(env, "neighbour", message->nlmsg_type == RTM_DELNEIGH, to_neighbour(env, message));
	case RTM_NEWLINK:
	case RTM_DELLINK:
		// A bridge tells of its ports too: RTM_DELLINK of AF_BRIDGE is one that has left it, and no deletion.
		if (size < sizeof(ifinfomsg) || family_of(message) != AF_UNSPEC)
			break;
		return to_event(env, "link", message->nlmsg_type == RTM_DELLINK, to_interface(env, message));
	case RTM_NEWADDR:
	case RTM_DELADDR:
		if (size < sizeof(ifaddrmsg) || !is_of_ip(message))
			break;
		return to_event(env, "address", message->nlmsg_type == RTM_DELADDR, to_address(env, message));
	case RTM_NEWROUTE:
	case RTM_DELROUTE: {
		if (size < sizeof(rtmsg) || !is_of_ip(message))
			break;
		auto *header = static_cast<const rtmsg *>(mnl_nlmsg_get_payload(message));
		if (header->rtm_flags & RTM_F_CLONED) // an entry of a cache
			break;
		return to_event(env, "route", message->nlmsg_type == RTM_DELROUTE,
				to_route(env, *header, Attributes(message, sizeof(*header))));
	}
	default:
		break;
	}
	return env.Undefined();
}

void on_ready(uv_poll_t *handle, int status, int)
{
	auto *poll = static_cast<MonitorPoll *>(handle->data);
	if (poll->owner)
		poll->owner->on_ready(status);
}

void on_closed(uv_handle_t *handle)
{
	auto *poll = static_cast<MonitorPoll *>(handle->data);
	napi_remove_async_cleanup_hook(poll->hook);
	delete poll;
}

void on_environment_end(napi_async_cleanup_hook_handle, void *data)
{
	auto *poll = static_cast<MonitorPoll *>(data);
	if (poll->owner)
		poll->owner->end();
}
} // namespace

void NetlinkMonitor::define(Napi::Env env)
{
	State::of(env).monitor = Napi::Persistent(DefineClass(env, class_name,
							      {
								  InstanceMethod<&NetlinkMonitor::close>("close"),
								  InstanceMethod<&NetlinkMonitor::ref>("ref"),
								  InstanceMethod<&NetlinkMonitor::unref>("unref"),
							      }));
}

Napi::Value NetlinkMonitor::open(const Napi::CallbackInfo &info)
{
	if (!info[0].IsFunction())
		wrong_type(info.Env(), "listener", "a function");
	uint32_t receive_bytes =
	    info[1].IsUndefined() ? default_receive_bytes : uint32_argument(info, 1, "receiveBytes");
	if (receive_bytes > INT32_MAX / 2) // The kernel doubles it.
		throw Napi::RangeError::New(info.Env(), "receiveBytes must be at most 1073741823");
	Napi::Object made = make_handle(State::of(info.Env()).monitor, subscribe(info.Env(), receive_bytes), source);
	Unwrap(made)->start(info[0].As<Napi::Function>());
	return made;
}

NetlinkMonitor::NetlinkMonitor(const Napi::CallbackInfo &info)
    : Napi::ObjectWrap<NetlinkMonitor>(info), handle_(info, &Counters::monitors), received_(longest_message)
{
	info.This().As<Napi::Object>().TypeTag(&tag);
}

NetlinkMonitor::~NetlinkMonitor()
{
	end();
}

void NetlinkMonitor::start(const Napi::Function &listener)
{
	constexpr const char *call = "uv_poll";
	Napi::Env env = Env();
	uv_loop_t *loop = nullptr;
	if (napi_get_uv_event_loop(env, &loop) != napi_ok)
		fail(env, EINVAL, "napi_get_uv_event_loop", source);
	auto poll = std::make_unique<MonitorPoll>();
	poll->handle.data = poll.get();
	int error = uv_poll_init(loop, &poll->handle, handle_.fd(env, call));
	if (error < 0)
		fail(env, error, "uv_poll_init", source);
	poll_ = poll.release();
	poll_->owner = this;
	napi_add_async_cleanup_hook(env, on_environment_end, poll_, &poll_->hook);
	listener_ = Napi::Persistent(listener);
	context_ = std::make_unique<Napi::AsyncContext>(env, "xlb.NetlinkMonitor");
	Ref();
	error = uv_poll_start(&poll_->handle, UV_READABLE, ::on_ready);
	if (error < 0) {
		end();
		fail(env, error, "uv_poll_start", source);
	}
}

void NetlinkMonitor::on_ready(int status)
{
	Napi::Env env = Env();
	Napi::HandleScope scope(env);
	try {
		Napi::Array events = read();
		// An overrun is an error of the socket, for which libuv stops to watch it; read() has taken that away.
		if (status < 0 && poll_)
			uv_poll_start(&poll_->handle, UV_READABLE, ::on_ready);
		if (events.Length() > 0)
			listener_.MakeCallback(env.Global(), {events}, *context_);
	} catch (const Napi::Error &error) {
		napi_fatal_exception(env, error.Value());
	}
}

/** All that the socket has, up to datagrams_per_turn: the loop comes again for more. */
Napi::Array NetlinkMonitor::read()
{
	Napi::Env env = Env();
	Napi::Array events = Napi::Array::New(env);
	auto overrun = [&] { events.Set(events.Length(), to_event(env, "overrun")); };
	int fd = handle_.fd(env, "recvmsg");
	for (int i = 0; i < datagrams_per_turn; i++) {
		sockaddr_nl sender{};
		iovec part{received_.data(), received_.size()};
		msghdr header{};
		header.msg_name = &sender;
		header.msg_namelen = sizeof(sender);
		header.msg_iov = &part;
		header.msg_iovlen = 1;
		ssize_t size = retry([&] { return recvmsg(fd, &header, 0); });
		if (size < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		if (size < 0 && errno == ENOBUFS) {
			overrun();
			continue;
		}
		if (size < 0) {
			int error = errno;
			end();
			fail(env, error, "recvmsg", source);
		}
		if (sender.nl_pid != 0) // not from the kernel
			continue;
		if (header.msg_flags & MSG_TRUNC) {
			overrun();
			continue;
		}
		auto *message = reinterpret_cast<const nlmsghdr *>(received_.data());
		int left = static_cast<int>(size);
		for (; mnl_nlmsg_ok(message, left); message = mnl_nlmsg_next(message, &left)) {
			Napi::HandleScope scope(env);
			Napi::Value event = event_of(env, message);
			if (!event.IsUndefined())
				events.Set(events.Length(), event);
		}
	}
	return events;
}

void NetlinkMonitor::end()
{
	if (!poll_)
		return;
	MonitorPoll *poll = poll_;
	poll_ = nullptr;
	poll->owner = nullptr;
	uv_close(reinterpret_cast<uv_handle_t *>(&poll->handle), on_closed);
	handle_.close();
	listener_.Reset(); // context_ stays: it may be the listener who ends this.
	std::vector<char>().swap(received_);
	Unref();
}

void NetlinkMonitor::close(const Napi::CallbackInfo &)
{
	end();
}

void NetlinkMonitor::ref(const Napi::CallbackInfo &)
{
	if (poll_)
		uv_ref(reinterpret_cast<uv_handle_t *>(&poll_->handle));
}

void NetlinkMonitor::unref(const Napi::CallbackInfo &)
{
	if (poll_)
		uv_unref(reinterpret_cast<uv_handle_t *>(&poll_->handle));
}
