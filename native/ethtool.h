// SPDX-License-Identifier: Apache-2.0
// What ethtool tells of a device, by ioctl(SIOCETHTOOL).
#pragma once

#include <napi.h>

Napi::Value device_features(const Napi::CallbackInfo &info);
Napi::Value device_driver(const Napi::CallbackInfo &info);
Napi::Value device_receive_channels(const Napi::CallbackInfo &info);
