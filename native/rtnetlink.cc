// SPDX-License-Identifier: Apache-2.0
#include "rtnetlink.h"

#include <arpa/inet.h>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

namespace
{
constexpr int dump_attempts = 32;
constexpr uint32_t sequence = 1;

using Socket = std::unique_ptr<mnl_socket, int (*)(mnl_socket *)>;

Socket open_socket(int bus)
{
	Socket socket(mnl_socket_open2(bus, SOCK_CLOEXEC), mnl_socket_close);
	if (!socket || mnl_socket_bind(socket.get(), 0, MNL_SOCKET_AUTOPID) < 0)
		return Socket(nullptr, mnl_socket_close);
	int on = 1;
	// Both are comforts: words with an error, and requests checked to the letter.
	mnl_socket_setsockopt(socket.get(), NETLINK_EXT_ACK, &on, sizeof(on));
	mnl_socket_setsockopt(socket.get(), NETLINK_GET_STRICT_CHK, &on, sizeof(on));
	return socket;
}

std::string extended_text(const nlmsghdr *message, const nlmsgerr *error)
{
	if (!(message->nlmsg_flags & NLM_F_ACK_TLVS))
		return "";
	size_t offset = sizeof(*error);
	// The failed request is quoted whole unless NLM_F_CAPPED says that only its header is.
	if (!(message->nlmsg_flags & NLM_F_CAPPED))
		offset += error->msg.nlmsg_len - sizeof(nlmsghdr);
	if (mnl_nlmsg_get_payload_len(message) < offset)
		return "";
	const nlattr *text = Attributes(message, offset)[NLMSGERR_ATTR_MSG];
	return text && mnl_attr_validate(text, MNL_TYPE_NUL_STRING) >= 0 ? mnl_attr_get_str(text) : "";
}

/** Takes one message into the answer; false: it was the last. */
bool take(const nlmsghdr *message, RtnetlinkAnswer &answer)
{
	if (message->nlmsg_flags & NLM_F_DUMP_INTR) {
		answer.error = EINTR;
		return false;
	}
	if (message->nlmsg_type == NLMSG_ERROR && mnl_nlmsg_get_payload_len(message) >= sizeof(nlmsgerr)) {
		auto *error = static_cast<const nlmsgerr *>(mnl_nlmsg_get_payload(message));
		answer.error = -error->error;
		if (answer.error)
			answer.text = extended_text(message, error);
		return false;
	}
	if (message->nlmsg_type == NLMSG_DONE) {
		if (mnl_nlmsg_get_payload_len(message) >= sizeof(int))
			answer.error = -*static_cast<const int *>(mnl_nlmsg_get_payload(message));
		return false;
	}
	if (message->nlmsg_type >= NLMSG_MIN_TYPE) {
		auto *start = reinterpret_cast<const char *>(message);
		answer.bytes.insert(answer.bytes.end(), start, start + message->nlmsg_len);
		answer.bytes.resize(MNL_ALIGN(answer.bytes.size()));
	}
	return true;
}
} // namespace

void RtnetlinkAnswer::each(const std::function<void(const nlmsghdr *)> &call) const
{
	auto *message = reinterpret_cast<const nlmsghdr *>(bytes.data());
	int left = static_cast<int>(bytes.size());
	for (; mnl_nlmsg_ok(message, left); message = mnl_nlmsg_next(message, &left))
		call(message);
}

RtnetlinkRequest::RtnetlinkRequest(uint16_t type, uint16_t flags, int bus) : bus_(bus)
{
	message_ = mnl_nlmsg_put_header(buffer_);
	message_->nlmsg_type = type;
	message_->nlmsg_seq = sequence;
	message_->nlmsg_flags = NLM_F_REQUEST | flags;
	if ((flags & NLM_F_DUMP) != NLM_F_DUMP || type % 4 != 2) // RTM_GET... are the third of each four.
		message_->nlmsg_flags |= NLM_F_ACK;
}

void RtnetlinkRequest::put(uint16_t attribute, uint32_t value)
{
	mnl_attr_put_u32(message_, attribute, value);
}

void RtnetlinkRequest::put(uint16_t attribute, const void *value, size_t size)
{
	mnl_attr_put(message_, attribute, size, value);
}

RtnetlinkAnswer RtnetlinkRequest::run_once() const
{
	RtnetlinkAnswer answer;
	Socket socket = open_socket(bus_);
	if (!socket || mnl_socket_sendto(socket.get(), message_, message_->nlmsg_len) < 0) {
		answer.error = errno;
		return answer;
	}
	std::vector<char> received(65536); // The kernel fills at most 32 KiB of a dump's buffer.
	unsigned int port = mnl_socket_get_portid(socket.get());
	for (;;) {
		ssize_t size = mnl_socket_recvfrom(socket.get(), received.data(), received.size());
		if (size < 0 && errno == EINTR)
			continue;
		if (size < 0) {
			answer.error = errno;
			return answer;
		}
		auto *message = reinterpret_cast<const nlmsghdr *>(received.data());
		int left = static_cast<int>(size);
		for (; mnl_nlmsg_ok(message, left); message = mnl_nlmsg_next(message, &left))
			if (message->nlmsg_pid == port && message->nlmsg_seq == sequence && !take(message, answer))
				return answer;
	}
}

RtnetlinkAnswer RtnetlinkRequest::run() const
{
	RtnetlinkAnswer answer = run_once();
	for (int tried = 1; answer.error == EINTR && tried < dump_attempts; tried++)
		answer = run_once();
	return answer;
}

Attributes::Attributes(const nlmsghdr *message, size_t header_size)
{
	keep(mnl_nlmsg_get_payload_offset(message, header_size), mnl_nlmsg_get_payload_tail(message));
}

Attributes::Attributes(const nlattr *parent)
{
	if (parent)
		keep(mnl_attr_get_payload(parent),
		     static_cast<const char *>(mnl_attr_get_payload(parent)) + mnl_attr_get_payload_len(parent));
}

void Attributes::keep(const void *start, const void *end)
{
	auto *attribute = static_cast<const nlattr *>(start);
	auto left = [&] {
		return static_cast<int>(static_cast<const char *>(end) - reinterpret_cast<const char *>(attribute));
	};
	for (; mnl_attr_ok(attribute, left()); attribute = mnl_attr_next(attribute)) {
		size_t type = mnl_attr_get_type(attribute);
		if (type >= found_.size())
			found_.resize(type + 1);
		found_[type] = attribute;
	}
}

const nlattr *Attributes::operator[](size_t type) const
{
	return type < found_.size() ? found_[type] : nullptr;
}

uint32_t Attributes::u32(size_t type, uint32_t absent) const
{
	const nlattr *attribute = (*this)[type];
	return attribute && mnl_attr_get_payload_len(attribute) >= sizeof(uint32_t) ? mnl_attr_get_u32(attribute)
										    : absent;
}

uint16_t Attributes::u16(size_t type) const
{
	const nlattr *attribute = (*this)[type];
	return attribute && mnl_attr_get_payload_len(attribute) >= sizeof(uint16_t) ? mnl_attr_get_u16(attribute) : 0;
}

IpAddress parse_address(const std::string &text)
{
	IpAddress address;
	if (inet_pton(AF_INET, text.c_str(), address.bytes) == 1) {
		address.family = AF_INET;
		address.size = 4;
	} else if (inet_pton(AF_INET6, text.c_str(), address.bytes) == 1) {
		address.family = AF_INET6;
		address.size = 16;
	}
	return address;
}

std::string address_text(int family, const nlattr *attribute)
{
	return attribute ? address_text(family, mnl_attr_get_payload(attribute), mnl_attr_get_payload_len(attribute))
			 : "";
}

std::string address_text(int family, const void *bytes, size_t size)
{
	char text[INET6_ADDRSTRLEN];
	if (size != (family == AF_INET ? 4 : 16) || !inet_ntop(family, bytes, text, sizeof(text)))
		return "";
	return text;
}

std::string mac_text(const nlattr *attribute)
{
	std::string text;
	if (!attribute)
		return text;
	auto *bytes = static_cast<const uint8_t *>(mnl_attr_get_payload(attribute));
	for (uint16_t i = 0; i < mnl_attr_get_payload_len(attribute); i++) {
		char byte[4];
		snprintf(byte, sizeof(byte), i ? ":%02x" : "%02x", bytes[i]);
		text += byte;
	}
	return text;
}
