// SPDX-License-Identifier: Apache-2.0
// Failures as JavaScript sees them: NativeError of src/dataplane/native.ts.
#pragma once

#include <napi.h>
#include <string>

/**
 * Throws a NativeError. `detail` is appended to the message; `log` becomes verifierLog unless it is empty.
 * A negative `error` is taken by its absolute value, as libbpf returns it.
 */
[[noreturn]] void fail(Napi::Env env, int error, const char *call, const std::string &object,
		       const std::string &detail = "", const std::string &log = "");

/** Makes libbpf print nothing. What it warns of is kept for a LibbpfLog, if this thread has one. */
void silence_libbpf();

/** Keeps what libbpf says on this thread while it lives: the verifier's log is among it. */
class LibbpfLog
{
      public:
	LibbpfLog();
	~LibbpfLog();
	LibbpfLog(const LibbpfLog &) = delete;
	LibbpfLog &operator=(const LibbpfLog &) = delete;
	/** What was said. At most 1 MiB; of more, the end is kept, for there the verifier names its reason. */
	std::string text() const;
};
