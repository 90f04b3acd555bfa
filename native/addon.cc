// SPDX-License-Identifier: Apache-2.0
// The addon as src/dataplane/native.ts describes it: mechanism only, every call synchronous but for what a
// monitor tells.
#include "error.h"
#include "link.h"
#include "map.h"
#include "monitor.h"
#include "netlink.h"
#include "object.h"
#include "program.h"
#include "raw_socket.h"
#include "ring.h"
#include "state.h"
#include "system.h"

#include <napi.h>

namespace
{
Napi::Value open_handles(const Napi::CallbackInfo &info)
{
	const Counters &counters = *State::of(info.Env()).counters;
	Napi::Object result = Napi::Object::New(info.Env());
	result.Set("objects", counters.objects);
	result.Set("maps", counters.maps);
	result.Set("programs", counters.programs);
	result.Set("links", counters.links);
	result.Set("rings", counters.rings);
	result.Set("monitors", counters.monitors);
	result.Set("rawSockets", counters.raw_sockets);
	result.Set("mappings", counters.mappings);
	result.Set("mappedBytes", static_cast<double>(counters.mapped_bytes));
	return result;
}

Napi::Object init(Napi::Env env, Napi::Object exports)
{
	silence_libbpf();
	env.SetInstanceData(new State());
	BpfObject::define(env);
	BpfMap::define(env);
	BpfProgram::define(env);
	BpfLink::define(env);
	BpfRing::define(env);
	NetlinkMonitor::define(env);
	RawSocket::define(env);

	exports.Set("openObject", Napi::Function::New<BpfObject::open>(env, "openObject"));
	exports.Set("createMap", Napi::Function::New<BpfMap::create>(env, "createMap"));
	exports.Set("openMap", Napi::Function::New<BpfMap::open>(env, "openMap"));
	exports.Set("openProgram", Napi::Function::New<BpfProgram::open>(env, "openProgram"));
	exports.Set("openProgramById", Napi::Function::New<BpfProgram::open_by_id>(env, "openProgramById"));
	exports.Set("openLink", Napi::Function::New<BpfLink::open>(env, "openLink"));
	exports.Set("openRing", Napi::Function::New<BpfRing::open>(env, "openRing"));
	exports.Set("openRawSocket", Napi::Function::New<RawSocket::open>(env, "openRawSocket"));
	exports.Set("attachXdp", Napi::Function::New<BpfLink::attach_xdp>(env, "attachXdp"));
	exports.Set("programInfo", Napi::Function::New<BpfProgram::info_by_id>(env, "programInfo"));
	exports.Set("openHandles", Napi::Function::New<open_handles>(env, "openHandles"));
	exports.Set("netlink", make_netlink(env));
	exports.Set("system", make_system(env));
	return exports;
}
} // namespace

NODE_API_MODULE(xlb, init)
