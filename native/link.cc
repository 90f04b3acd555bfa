// SPDX-License-Identifier: Apache-2.0
#include "link.h"

#include "arguments.h"
#include "error.h"
#include "program.h"

#include <bpf/bpf.h>
#include <linux/if_link.h>
#include <net/if.h>

const napi_type_tag BpfLink::tag = {0x786c622d6c6e6b03, 0x8f2f6c0a41d94e03};

void BpfLink::define(Napi::Env env)
{
	State::of(env).link = Napi::Persistent(DefineClass(env, class_name,
							   {
							       InstanceMethod<&BpfLink::update>("update"),
							       InstanceMethod<&BpfLink::pin>("pin"),
							       InstanceMethod<&BpfLink::detach>("detach"),
							       InstanceMethod<&BpfLink::close>("close"),
							   }));
	define_getter<BpfLink, &BpfLink::info>(State::of(env).link, "info");
}

Napi::Value BpfLink::open(const Napi::CallbackInfo &info)
{
	std::string path = text_argument(info, 0, "path");
	return make_handle(State::of(info.Env()).link, open_pin(info.Env(), path, "bpf-link"), path);
}

Napi::Value BpfLink::attach_xdp(const Napi::CallbackInfo &info)
{
	constexpr const char *call = "bpf_link_create";
	Napi::Env env = info.Env();
	BpfProgram &program = handle_argument<BpfProgram>(info, 0, "program");
	uint32_t ifindex = uint32_argument(info, 1, "ifindex");
	std::string mode = text_argument(info, 2, "mode");
	if (mode != "native" && mode != "generic")
		wrong_type(env, "mode", "'native' or 'generic'");

	char name[IF_NAMESIZE];
	std::string interface = if_indextoname(ifindex, name) ? name : "interface " + std::to_string(ifindex);
	auto opts = options<bpf_link_create_opts>();
	opts.flags = mode == "native" ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE;
	int program_fd = program.fd(env, call);
	Descriptor fd(retry([&] { return bpf_link_create(program_fd, static_cast<int>(ifindex), BPF_XDP, &opts); }));
	if (fd.get() < 0)
		fail(env, errno, call, interface);
	return make_handle(State::of(env).link, std::move(fd), interface);
}

BpfLink::BpfLink(const Napi::CallbackInfo &info) : Napi::ObjectWrap<BpfLink>(info), handle_(info, &Counters::links)
{
	info.This().As<Napi::Object>().TypeTag(&tag);
}

Napi::Value BpfLink::info(const Napi::CallbackInfo &info)
{
	bpf_link_info link{};
	uint32_t length = sizeof(link);
	if (bpf_obj_get_info_by_fd(handle_.fd(info.Env(), "info"), &link, &length) < 0)
		fail(info.Env(), errno, "bpf_obj_get_info_by_fd", handle_.name);

	Napi::Object result = Napi::Object::New(info.Env());
	result.Set("id", link.id);
	result.Set("programId", link.prog_id);
	result.Set("ifindex", link.type == BPF_LINK_TYPE_XDP ? link.xdp.ifindex : 0);
	return result;
}

void BpfLink::update(const Napi::CallbackInfo &info)
{
	constexpr const char *call = "bpf_link_update";
	int fd = handle_.fd(info.Env(), call);
	int program_fd = handle_argument<BpfProgram>(info, 0, "program").fd(info.Env(), call);
	if (retry([&] { return bpf_link_update(fd, program_fd, nullptr); }) < 0)
		fail(info.Env(), errno, call, handle_.name);
}

void BpfLink::pin(const Napi::CallbackInfo &info)
{
	handle_.pin(info);
}

void BpfLink::detach(const Napi::CallbackInfo &info)
{
	int fd = handle_.fd(info.Env(), "bpf_link_detach");
	if (retry([&] { return bpf_link_detach(fd); }) < 0)
		fail(info.Env(), errno, "bpf_link_detach", handle_.name);
}

void BpfLink::close(const Napi::CallbackInfo &)
{
	handle_.close();
}
