// SPDX-License-Identifier: Apache-2.0
// Arguments from JavaScript. TypeScript validates them; here they are only kept from crashing the process, so what is
// of the wrong type throws a TypeError and what is out of range a RangeError.
#pragma once

#include <cstdint>
#include <napi.h>
#include <string>

/** A view into a Uint8Array; valid while the call that received it runs and does not enter JavaScript. */
struct Bytes {
	const uint8_t *data;
	size_t size;
};

std::string text_argument(const Napi::CallbackInfo &info, size_t index, const char *name);
uint32_t uint32_argument(const Napi::CallbackInfo &info, size_t index, const char *name);
int32_t int32_argument(const Napi::CallbackInfo &info, size_t index, const char *name);
bool boolean_argument(const Napi::CallbackInfo &info, size_t index, const char *name);
Bytes bytes_argument(const Napi::CallbackInfo &info, size_t index, const char *name);

/** The same for a property's value. */
uint32_t to_uint32(const Napi::Value &value, const char *name);
Bytes to_bytes(const Napi::Value &value, const char *name);

[[noreturn]] void wrong_type(Napi::Env env, const char *name, const char *expected);

/** The C++ object behind a handle. The tag tells BpfMap from BpfProgram, which napi_unwrap does not. */
template <typename T> T &handle_argument(const Napi::CallbackInfo &info, size_t index, const char *name)
{
	if (!info[index].IsObject() || !info[index].As<Napi::Object>().CheckTypeTag(&T::tag))
		wrong_type(info.Env(), name, T::class_name);
	return *T::Unwrap(info[index].As<Napi::Object>());
}

/**
 * A getter for a class's prototype. V8 checks the receiver of a class's methods, but not that of its accessors: one
 * class's getter could be called on another's handle.
 */
template <typename T, Napi::Value (T::*Method)(const Napi::CallbackInfo &)>
Napi::Value checked_getter(const Napi::CallbackInfo &info)
{
	if (!info.This().IsObject() || !info.This().As<Napi::Object>().CheckTypeTag(&T::tag))
		wrong_type(info.Env(), "this", T::class_name);
	return (T::Unwrap(info.This().As<Napi::Object>())->*Method)(info);
}

template <typename T, Napi::Value (T::*Method)(const Napi::CallbackInfo &)>
void define_getter(const Napi::FunctionReference &constructor, const char *name)
{
	Napi::Object prototype = constructor.Value().Get("prototype").As<Napi::Object>();
	prototype.DefineProperty(
	    Napi::PropertyDescriptor::Accessor<checked_getter<T, Method>>(name, napi_configurable));
}
