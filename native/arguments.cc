// SPDX-License-Identifier: Apache-2.0
#include "arguments.h"

#include <cmath>

namespace
{
/** An integer within [low, high]. */
double to_integer(const Napi::Value &value, const char *name, double low, double high)
{
	if (!value.IsNumber())
		wrong_type(value.Env(), name, "a number");
	double number = value.As<Napi::Number>().DoubleValue();
	if (!(number >= low && number <= high) || std::trunc(number) != number)
		throw Napi::RangeError::New(value.Env(), std::string(name) + " must be an integer from " +
							     std::to_string(static_cast<int64_t>(low)) + " to " +
							     std::to_string(static_cast<int64_t>(high)));
	return number;
}
} // namespace

void wrong_type(Napi::Env env, const char *name, const char *expected)
{
	throw Napi::TypeError::New(env, std::string(name) + " must be " + expected);
}

std::string text_argument(const Napi::CallbackInfo &info, size_t index, const char *name)
{
	if (!info[index].IsString())
		wrong_type(info.Env(), name, "a string");
	std::string text = info[index].As<Napi::String>().Utf8Value();
	if (text.find('\0') != std::string::npos)
		wrong_type(info.Env(), name, "a string without NUL");
	return text;
}

uint32_t uint32_argument(const Napi::CallbackInfo &info, size_t index, const char *name)
{
	return to_uint32(info[index], name);
}

int32_t int32_argument(const Napi::CallbackInfo &info, size_t index, const char *name)
{
	return static_cast<int32_t>(to_integer(info[index], name, INT32_MIN, INT32_MAX));
}

bool boolean_argument(const Napi::CallbackInfo &info, size_t index, const char *name)
{
	if (!info[index].IsBoolean())
		wrong_type(info.Env(), name, "a boolean");
	return info[index].As<Napi::Boolean>().Value();
}

Bytes bytes_argument(const Napi::CallbackInfo &info, size_t index, const char *name)
{
	return to_bytes(info[index], name);
}

uint32_t to_uint32(const Napi::Value &value, const char *name)
{
	return static_cast<uint32_t>(to_integer(value, name, 0, UINT32_MAX));
}

Bytes to_bytes(const Napi::Value &value, const char *name)
{
	if (!value.IsTypedArray() || value.As<Napi::TypedArray>().TypedArrayType() != napi_uint8_array)
		wrong_type(value.Env(), name, "a Uint8Array");
	Napi::Uint8Array array = value.As<Napi::Uint8Array>();
	return {array.Data(), array.ByteLength()};
}
