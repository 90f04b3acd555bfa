// SPDX-License-Identifier: Apache-2.0
// rtnetlink's messages as JavaScript sees them, whether they were asked for or came by themselves.
#pragma once

#include "rtnetlink.h"

#include <napi.h>
#include <string>

/** RTM_NEWLINK, RTM_DELLINK: Interface of src/dataplane/native.ts. */
Napi::Object to_interface(Napi::Env env, const nlmsghdr *message);
/** RTM_NEWADDR, RTM_DELADDR: InterfaceAddress. */
Napi::Object to_address(Napi::Env env, const nlmsghdr *message);
/** RTM_NEWNEIGH, RTM_DELNEIGH: Neighbour. */
Napi::Object to_neighbour(Napi::Env env, const nlmsghdr *message);

/** Is it of IPv4 or IPv6? Its family is in the first octet of the header of every rtnetlink message. */
bool is_of_ip(const nlmsghdr *message);
/** That octet. */
int family_of(const nlmsghdr *message);

/** rtm_type's name. */
const char *route_type(uint8_t type);
/** The first hop of a route of `family`; '' where its destinations are on the link. */
std::string gateway_of(int family, const Attributes &attributes);
