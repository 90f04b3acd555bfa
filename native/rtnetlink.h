// SPDX-License-Identifier: Apache-2.0
// One rtnetlink request and its answers.
#pragma once

#include <cstdint>
#include <functional>
#include <libmnl/libmnl.h>
#include <linux/netlink.h>
#include <string>
#include <vector>

/** What the kernel answered. The messages lie one after another in `bytes`, without NLMSG_DONE and NLMSG_ERROR. */
struct RtnetlinkAnswer {
	/** errno, 0 where all went well. */
	int error = 0;
	/** The failure in the kernel's own words (NLMSGERR_ATTR_MSG), often empty. */
	std::string text;
	std::vector<char> bytes;

	void each(const std::function<void(const nlmsghdr *)> &call) const;
};

class RtnetlinkRequest
{
      public:
	/** `flags`: NLM_F_DUMP asks for a dump; anything else is acknowledged. `bus`: NETLINK_ROUTE, NETLINK_GENERIC.
	 */
	RtnetlinkRequest(uint16_t type, uint16_t flags, int bus = NETLINK_ROUTE);
	RtnetlinkRequest(const RtnetlinkRequest &) = delete;
	RtnetlinkRequest &operator=(const RtnetlinkRequest &) = delete;

	/** The family's own header, zeroed. To be called before any put. */
	template <typename Header> Header &header()
	{
		return *static_cast<Header *>(mnl_nlmsg_put_extra_header(message_, sizeof(Header)));
	}
	void put(uint16_t attribute, uint32_t value);
	void put(uint16_t attribute, const void *value, size_t size);

	/** Sends it and gathers the answers; a dump that changed while it was read is read again. */
	RtnetlinkAnswer run() const;

      private:
	RtnetlinkAnswer run_once() const;
	int bus_;
	alignas(nlmsghdr) char buffer_[512];
	nlmsghdr *message_;
};

/** A message's attributes by type; nullptr where absent. */
class Attributes
{
      public:
	/** Those after a header of `header_size` bytes. */
	Attributes(const nlmsghdr *message, size_t header_size);
	/** Those nested in `parent`; none where that is nullptr. */
	explicit Attributes(const nlattr *parent);

	const nlattr *operator[](size_t type) const;
	/** The attribute as a 32-bit number, or `absent`. */
	uint32_t u32(size_t type, uint32_t absent = 0) const;
	/** Likewise one of 16 bits; 0 where absent. */
	uint16_t u16(size_t type) const;

      private:
	void keep(const void *start, const void *end);
	std::vector<const nlattr *> found_;
};

/** An IP address as bytes. */
struct IpAddress {
	/** AF_INET, AF_INET6; 0: not an address. */
	int family = 0;
	size_t size = 0;
	uint8_t bytes[16] = {};
};

IpAddress parse_address(const std::string &text);
/** '' where `attribute` is nullptr or no address of `family`. */
std::string address_text(int family, const nlattr *attribute);
std::string address_text(int family, const void *bytes, size_t size);
/** `02:00:00:00:00:01`; '' where `attribute` is nullptr or empty. */
std::string mac_text(const nlattr *attribute);
