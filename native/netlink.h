// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <napi.h>

/** The object `netlink` of the addon. */
Napi::Object make_netlink(Napi::Env env);
