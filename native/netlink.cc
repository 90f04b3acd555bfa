// SPDX-License-Identifier: Apache-2.0
// rtnetlink as JavaScript sees it: interfaces, addresses, routes, neighbours.
#include "netlink.h"

#include "arguments.h"
#include "error.h"
#include "messages.h"
#include "monitor.h"
#include "rtnetlink.h"

#include <linux/genetlink.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <sys/socket.h>

namespace
{
void check(Napi::Env env, const RtnetlinkAnswer &answer, const char *call, const std::string &object)
{
	if (answer.error)
		fail(env, answer.error, call, object, answer.text);
}

IpAddress address_argument(const Napi::CallbackInfo &info, size_t index, const char *call)
{
	std::string text = text_argument(info, index, "address");
	IpAddress address = parse_address(text);
	if (!address.family)
		fail(info.Env(), EINVAL, call, text, "not an IP address");
	return address;
}

Napi::Value interfaces(const Napi::CallbackInfo &info)
{
	RtnetlinkRequest request(RTM_GETLINK, NLM_F_DUMP);
	request.header<ifinfomsg>();
	request.put(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	RtnetlinkAnswer answer = request.run();
	check(info.Env(), answer, "RTM_GETLINK", "interfaces");

	Napi::Array result = Napi::Array::New(info.Env());
	answer.each([&](const nlmsghdr *message) { result.Set(result.Length(), to_interface(info.Env(), message)); });
	return result;
}

Napi::Value interface_by_index(const Napi::CallbackInfo &info)
{
	int32_t ifindex = int32_argument(info, 0, "ifindex");
	int32_t netns_id = int32_argument(info, 1, "netnsId");
	RtnetlinkRequest request(RTM_GETLINK, 0);
	request.header<ifinfomsg>().ifi_index = ifindex;
	request.put(IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
	if (netns_id >= 0)
		request.put(IFLA_TARGET_NETNSID, static_cast<uint32_t>(netns_id));
	RtnetlinkAnswer answer = request.run();
	if (answer.error == ENODEV)
		return info.Env().Undefined();
	check(info.Env(), answer, "RTM_GETLINK", "interface " + std::to_string(ifindex));

	Napi::Value result = info.Env().Undefined();
	answer.each([&](const nlmsghdr *message) { result = to_interface(info.Env(), message); });
	return result;
}

Napi::Value addresses(const Napi::CallbackInfo &info)
{
	RtnetlinkRequest request(RTM_GETADDR, NLM_F_DUMP);
	request.header<ifaddrmsg>();
	RtnetlinkAnswer answer = request.run();
	check(info.Env(), answer, "RTM_GETADDR", "addresses");

	Napi::Array result = Napi::Array::New(info.Env());
	answer.each([&](const nlmsghdr *message) {
		if (is_of_ip(message))
			result.Set(result.Length(), to_address(info.Env(), message));
	});
	return result;
}

Napi::Value route(const Napi::CallbackInfo &info)
{
	constexpr const char *call = "RTM_GETROUTE";
	IpAddress address = address_argument(info, 0, call);
	std::string text = text_argument(info, 0, "address");
	RtnetlinkRequest request(RTM_GETROUTE, 0);
	auto &header = request.header<rtmsg>();
	header.rtm_family = static_cast<uint8_t>(address.family);
	header.rtm_dst_len = static_cast<uint8_t>(address.size * 8);
	request.put(RTA_DST, address.bytes, address.size);
	RtnetlinkAnswer answer = request.run();
	check(info.Env(), answer, call, text);

	Napi::Object result = Napi::Object::New(info.Env());
	answer.each([&](const nlmsghdr *message) {
		auto *found = static_cast<const rtmsg *>(mnl_nlmsg_get_payload(message));
		Attributes attributes(message, sizeof(*found));
		result.Set("type", route_type(found->rtm_type));
		result.Set("ifindex", attributes.u32(RTA_OIF));
		result.Set("gateway", gateway_of(address.family, attributes));
		result.Set("source", address_text(address.family, attributes[RTA_PREFSRC]));
	});
	return result;
}

Napi::Value neighbours(const Napi::CallbackInfo &info)
{
	uint32_t family = uint32_argument(info, 0, "family");
	if (family != AF_INET && family != AF_INET6)
		throw Napi::RangeError::New(info.Env(), "family must be 2 or 10");
	RtnetlinkRequest request(RTM_GETNEIGH, NLM_F_DUMP);
	request.header<ndmsg>().ndm_family = static_cast<uint8_t>(family);
	RtnetlinkAnswer answer = request.run();
	check(info.Env(), answer, "RTM_GETNEIGH", "neighbours");

	Napi::Array result = Napi::Array::New(info.Env());
	answer.each([&](const nlmsghdr *message) {
		if (family_of(message) == static_cast<int>(family))
			result.Set(result.Length(), to_neighbour(info.Env(), message));
	});
	return result;
}

// linux/netdev.h, which is younger than the kernels that xlb is built with.
enum netdev : uint16_t { NETDEV_CMD_DEV_GET = 1, NETDEV_A_DEV_IFINDEX = 1, NETDEV_A_DEV_XDP_FEATURES = 3 };

/** A generic netlink family's number; 0: the kernel has none of this name. */
uint16_t find_family(const std::string &name)
{
	RtnetlinkRequest request(GENL_ID_CTRL, 0, NETLINK_GENERIC);
	request.header<genlmsghdr>().cmd = CTRL_CMD_GETFAMILY;
	request.put(CTRL_ATTR_FAMILY_NAME, name.c_str(), name.size() + 1);
	uint16_t family = 0;
	request.run().each([&](const nlmsghdr *message) {
		family = Attributes(message, sizeof(genlmsghdr)).u16(CTRL_ATTR_FAMILY_ID);
	});
	return family;
}

Napi::Value xdp_features(const Napi::CallbackInfo &info)
{
	uint32_t ifindex = uint32_argument(info, 0, "ifindex");
	uint16_t family = find_family("netdev");
	if (!family)
		return info.Env().Undefined();
	RtnetlinkRequest request(family, 0, NETLINK_GENERIC);
	request.header<genlmsghdr>().cmd = NETDEV_CMD_DEV_GET;
	request.put(NETDEV_A_DEV_IFINDEX, ifindex);
	RtnetlinkAnswer answer = request.run();
	if (answer.error == ENODEV)
		return info.Env().Undefined();
	check(info.Env(), answer, "NETDEV_CMD_DEV_GET", "interface " + std::to_string(ifindex));
	Napi::Value result = info.Env().Undefined();
	answer.each([&](const nlmsghdr *message) {
		const nlattr *features = Attributes(message, sizeof(genlmsghdr))[NETDEV_A_DEV_XDP_FEATURES];
		if (features && mnl_attr_get_payload_len(features) >= sizeof(uint64_t))
			result = Napi::Number::New(info.Env(), static_cast<double>(mnl_attr_get_u64(features)));
	});
	return result;
}

RtnetlinkAnswer change_neighbour(const Napi::CallbackInfo &info, uint16_t type, uint16_t flags, const char *call)
{
	int32_t ifindex = int32_argument(info, 0, "ifindex");
	IpAddress address = address_argument(info, 1, call);
	RtnetlinkRequest request(type, flags);
	auto &header = request.header<ndmsg>();
	header.ndm_family = static_cast<uint8_t>(address.family);
	header.ndm_ifindex = ifindex;
	request.put(NDA_DST, address.bytes, address.size);
	if (type == RTM_NEWNEIGH)
		request.put(NDA_FLAGS_EXT, NTF_EXT_MANAGED);
	return request.run();
}

void manage_neighbour(const Napi::CallbackInfo &info)
{
	RtnetlinkAnswer answer = change_neighbour(info, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, "RTM_NEWNEIGH");
	check(info.Env(), answer, "RTM_NEWNEIGH", text_argument(info, 1, "address"));
}

Napi::Value delete_neighbour(const Napi::CallbackInfo &info)
{
	RtnetlinkAnswer answer = change_neighbour(info, RTM_DELNEIGH, 0, "RTM_DELNEIGH");
	if (answer.error == ENOENT)
		return Napi::Boolean::New(info.Env(), false);
	check(info.Env(), answer, "RTM_DELNEIGH", text_argument(info, 1, "address"));
	return Napi::Boolean::New(info.Env(), true);
}
} // namespace

Napi::Object make_netlink(Napi::Env env)
{
	Napi::Object netlink = Napi::Object::New(env);
	netlink.Set("interfaces", Napi::Function::New<interfaces>(env, "interfaces"));
	netlink.Set("interfaceByIndex", Napi::Function::New<interface_by_index>(env, "interfaceByIndex"));
	netlink.Set("xdpFeatures", Napi::Function::New<xdp_features>(env, "xdpFeatures"));
	netlink.Set("addresses", Napi::Function::New<addresses>(env, "addresses"));
	netlink.Set("route", Napi::Function::New<route>(env, "route"));
	netlink.Set("neighbours", Napi::Function::New<neighbours>(env, "neighbours"));
	netlink.Set("manageNeighbour", Napi::Function::New<manage_neighbour>(env, "manageNeighbour"));
	netlink.Set("monitor", Napi::Function::New<NetlinkMonitor::open>(env, "monitor"));
	netlink.Set("deleteNeighbour", Napi::Function::New<delete_neighbour>(env, "deleteNeighbour"));
	return netlink;
}
