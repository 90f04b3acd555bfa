// SPDX-License-Identifier: Apache-2.0
#include "messages.h"

#include <arpa/inet.h>
#include <cstring>
#include <linux/if_ether.h>
#include <linux/if_link.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <net/if.h>

namespace
{
const char *xdp_mode(const Attributes &xdp)
{
	static constexpr const char *modes[] = {"none", "native", "generic", "offloaded", "multi"};
	uint8_t mode = xdp[IFLA_XDP_ATTACHED] ? mnl_attr_get_u8(xdp[IFLA_XDP_ATTACHED]) : 0;
	return mode < std::size(modes) ? modes[mode] : "multi";
}
} // namespace

Napi::Object to_interface(Napi::Env env, const nlmsghdr *message)
{
	auto *header = static_cast<const ifinfomsg *>(mnl_nlmsg_get_payload(message));
	Attributes attributes(message, sizeof(*header));
	Attributes kind(attributes[IFLA_LINKINFO]);
	Attributes xdp(attributes[IFLA_XDP]);
	Attributes data(kind[IFLA_INFO_DATA]);
	const nlattr *name = attributes[IFLA_IFNAME];
	bool is_vlan = kind[IFLA_INFO_KIND] && !strcmp(mnl_attr_get_str(kind[IFLA_INFO_KIND]), "vlan");

	Napi::Object result = Napi::Object::New(env);
	result.Set("ifindex", header->ifi_index);
	result.Set("name", name ? mnl_attr_get_str(name) : "");
	result.Set("mac", mac_text(attributes[IFLA_ADDRESS]));
	result.Set("mtu", attributes.u32(IFLA_MTU));
	result.Set("kind", kind[IFLA_INFO_KIND] ? mnl_attr_get_str(kind[IFLA_INFO_KIND]) : "");
	result.Set("vlan", is_vlan ? data.u16(IFLA_VLAN_ID) : 0);
	result.Set("vlanOfProvider", is_vlan && ntohs(data.u16(IFLA_VLAN_PROTOCOL)) == ETH_P_8021AD);
	result.Set("up", (header->ifi_flags & IFF_UP) != 0);
	result.Set("loopback", (header->ifi_flags & IFF_LOOPBACK) != 0);
	// IFF_PROMISC shows only what was set by hand; a bridge or a capture raises the count alone.
	result.Set("promiscuous", attributes.u32(IFLA_PROMISCUITY) > 0);
	result.Set("master", attributes.u32(IFLA_MASTER));
	result.Set("link", attributes.u32(IFLA_LINK));
	result.Set("linkNetnsId", static_cast<int32_t>(attributes.u32(IFLA_LINK_NETNSID, UINT32_MAX)));
	result.Set("rxQueues", attributes.u32(IFLA_NUM_RX_QUEUES));
	result.Set("txQueues", attributes.u32(IFLA_NUM_TX_QUEUES));
	result.Set("xdpMode", xdp_mode(xdp));
	result.Set("xdpProgramId", xdp.u32(IFLA_XDP_PROG_ID));
	return result;
}

Napi::Object to_address(Napi::Env env, const nlmsghdr *message)
{
	auto *header = static_cast<const ifaddrmsg *>(mnl_nlmsg_get_payload(message));
	Attributes attributes(message, sizeof(*header));
	// On a point-to-point interface IFA_ADDRESS is the other end.
	const nlattr *address = attributes[IFA_LOCAL] ? attributes[IFA_LOCAL] : attributes[IFA_ADDRESS];

	Napi::Object result = Napi::Object::New(env);
	result.Set("ifindex", header->ifa_index);
	result.Set("address", address_text(header->ifa_family, address));
	result.Set("prefixLength", header->ifa_prefixlen);
	return result;
}

Napi::Object to_neighbour(Napi::Env env, const nlmsghdr *message)
{
	auto *header = static_cast<const ndmsg *>(mnl_nlmsg_get_payload(message));
	Attributes attributes(message, sizeof(*header));

	Napi::Object result = Napi::Object::New(env);
	result.Set("ifindex", header->ndm_ifindex);
	result.Set("address", address_text(header->ndm_family, attributes[NDA_DST]));
	result.Set("mac", mac_text(attributes[NDA_LLADDR]));
	result.Set("state", header->ndm_state);
	result.Set("managed", (attributes.u32(NDA_FLAGS_EXT) & NTF_EXT_MANAGED) != 0);
	return result;
}

int family_of(const nlmsghdr *message)
{
	return mnl_nlmsg_get_payload_len(message) ? *static_cast<const uint8_t *>(mnl_nlmsg_get_payload(message)) : 0;
}

bool is_of_ip(const nlmsghdr *message)
{
	int family = family_of(message);
	return family == AF_INET || family == AF_INET6;
}

const char *route_type(uint8_t type)
{
	switch (type) {
	case RTN_UNICAST:
		return "unicast";
	case RTN_LOCAL:
		return "local";
	case RTN_BROADCAST:
		return "broadcast";
	case RTN_MULTICAST:
		return "multicast";
	case RTN_BLACKHOLE:
		return "blackhole";
	case RTN_UNREACHABLE:
		return "unreachable";
	case RTN_PROHIBIT:
		return "prohibit";
	default:
		return "other";
	}
}

std::string gateway_of(int family, const Attributes &attributes)
{
	const nlattr *via = attributes[RTA_VIA]; // An IPv6 gateway of an IPv4 route.
	if (!via || mnl_attr_get_payload_len(via) < sizeof(rtvia))
		return address_text(family, attributes[RTA_GATEWAY]);
	auto *value = static_cast<const rtvia *>(mnl_attr_get_payload(via));
	return address_text(value->rtvia_family, value->rtvia_addr, mnl_attr_get_payload_len(via) - sizeof(*value));
}
