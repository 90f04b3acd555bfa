// SPDX-License-Identifier: Apache-2.0
#include "error.h"

#include <bpf/libbpf.h>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace
{
constexpr size_t log_limit = 1 << 20;
/** The kernel's own ENOTSUPP, which reaches user space from some BPF commands although no libc knows it. */
constexpr int kernel_enotsupp = 524;

thread_local bool keep_log = false;
thread_local std::string kept_log;

/** libbpf numbers its own failures from 4000, in this order. */
constexpr const char *libbpf_names[] = {"LIBELF",   "FORMAT", "KVERSION", "ENDIAN",  "INTERNAL", "RELOC",  "LOAD",
					"PROG2BIG", "KVER",   "PROGTYPE", "WRNGPID", "INVSEQ",   "NLPARSE"};

std::string name_of(int error)
{
	if (error == kernel_enotsupp)
		return "ENOTSUPP";
	if (error >= __LIBBPF_ERRNO__START && error < __LIBBPF_ERRNO__END)
		return std::string("LIBBPF_ERRNO__") + libbpf_names[error - __LIBBPF_ERRNO__START];
	const char *name = strerrorname_np(error);
	return name ? name : "E" + std::to_string(error);
}

std::string text_of(int error)
{
	char text[256];

	if (error == kernel_enotsupp)
		return "Operation not supported by this kind of object";
	libbpf_strerror(error, text, sizeof(text));
	return text;
}

int on_print(enum libbpf_print_level level, const char *format, va_list arguments)
{
	char *line = nullptr;

	if (!keep_log || level != LIBBPF_WARN)
		return 0;
	int length = vasprintf(&line, format, arguments);
	if (length < 0)
		return 0;
	kept_log.append(line, static_cast<size_t>(length));
	free(line);
	if (kept_log.size() > log_limit)
		kept_log.erase(0, kept_log.size() - log_limit);
	return length;
}
} // namespace

void fail(Napi::Env env, int error, const char *call, const std::string &object, const std::string &detail,
	  const std::string &log)
{
	error = abs(error);
	std::string code = name_of(error);
	std::string message = std::string(call) + " " + object + ": " + code + ": " + text_of(error);
	if (!detail.empty())
		message += ": " + detail;

	Napi::Error thrown = Napi::Error::New(env, message);
	thrown.Set("code", Napi::String::New(env, code));
	thrown.Set("errno", Napi::Number::New(env, error));
	thrown.Set("call", Napi::String::New(env, call));
	thrown.Set("object", Napi::String::New(env, object));
	if (!log.empty())
		thrown.Set("verifierLog", Napi::String::New(env, log));
	throw thrown;
}

void silence_libbpf()
{
	libbpf_set_print(on_print);
}

LibbpfLog::LibbpfLog()
{
	keep_log = true;
	kept_log.clear();
}

LibbpfLog::~LibbpfLog()
{
	keep_log = false;
	kept_log.clear();
	kept_log.shrink_to_fit();
}

std::string LibbpfLog::text() const
{
	return kept_log;
}
