// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <napi.h>

/** The object `system` of the addon. */
Napi::Object make_system(Napi::Env env);
