// SPDX-License-Identifier: Apache-2.0
// What the kernel tells of its own accord: neighbours, links, addresses and routes that change.
#pragma once

#include "state.h"

#include <memory>
#include <napi.h>
#include <vector>

struct MonitorPoll;

/** A subscription to rtnetlink, read on Node's own loop. It lives until it is closed, whoever refers to it. */
class NetlinkMonitor : public Napi::ObjectWrap<NetlinkMonitor>
{
      public:
	static constexpr const char *class_name = "NetlinkMonitor";
	static const napi_type_tag tag;

	static void define(Napi::Env env);
	/** monitor(listener, receiveBytes). */
	static Napi::Value open(const Napi::CallbackInfo &info);

	explicit NetlinkMonitor(const Napi::CallbackInfo &info);
	~NetlinkMonitor();

	/** Called by the loop. A negative `status`: libuv has stopped to watch the socket. */
	void on_ready(int status);
	void end();

      private:
	void start(const Napi::Function &listener);
	Napi::Array read();
	void close(const Napi::CallbackInfo &info);
	void ref(const Napi::CallbackInfo &info);
	void unref(const Napi::CallbackInfo &info);

	Handle handle_;
	/** Of the loop's, which frees it some time after end(). */
	MonitorPoll *poll_ = nullptr;
	Napi::FunctionReference listener_;
	std::unique_ptr<Napi::AsyncContext> context_;
	std::vector<char> received_;
};
