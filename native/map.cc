// SPDX-License-Identifier: Apache-2.0
#include "map.h"

#include "arguments.h"
#include "error.h"

#include <algorithm>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <cstring>
#include <vector>

const napi_type_tag BpfMap::tag = {0x786c622d6d617001, 0x8f2f6c0a41d94e01};

namespace
{
constexpr uint32_t first_batch = 16384;

size_t round_up_8(size_t size)
{
	return (size + 7) & ~size_t{7};
}

bool is_per_cpu(uint32_t type)
{
	return type == BPF_MAP_TYPE_PERCPU_HASH || type == BPF_MAP_TYPE_PERCPU_ARRAY ||
	       type == BPF_MAP_TYPE_LRU_PERCPU_HASH || type == BPF_MAP_TYPE_PERCPU_CGROUP_STORAGE;
}
} // namespace

void BpfMap::define(Napi::Env env)
{
	State::of(env).map = Napi::Persistent(DefineClass(env, class_name,
							  {
							      InstanceMethod<&BpfMap::lookup>("lookup"),
							      InstanceMethod<&BpfMap::update>("update"),
							      InstanceMethod<&BpfMap::remove>("delete"),
							      InstanceMethod<&BpfMap::lookup_batch>("lookupBatch"),
							      InstanceMethod<&BpfMap::update_batch>("updateBatch"),
							      InstanceMethod<&BpfMap::mmap>("mmap"),
							      InstanceMethod<&BpfMap::mmap_part>("mmapPart"),
							      InstanceMethod<&BpfMap::unmap>("unmap"),
							      InstanceMethod<&BpfMap::pin>("pin"),
							      InstanceMethod<&BpfMap::close>("close"),
							  }));
	define_getter<BpfMap, &BpfMap::info>(State::of(env).map, "info");
}

Napi::Value BpfMap::open(const Napi::CallbackInfo &info)
{
	std::string path = text_argument(info, 0, "path");
	return make_handle(State::of(info.Env()).map, open_pin(info.Env(), path, "bpf-map"), path);
}

/** createMap(name, type, keySize, valueSize, maxEntries, flags) */
Napi::Value BpfMap::create(const Napi::CallbackInfo &info)
{
	std::string name = text_argument(info, 0, "name");
	auto type = static_cast<bpf_map_type>(uint32_argument(info, 1, "type"));
	uint32_t key_size = uint32_argument(info, 2, "keySize");
	uint32_t value_size = uint32_argument(info, 3, "valueSize");
	uint32_t max_entries = uint32_argument(info, 4, "maxEntries");
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = uint32_argument(info, 5, "flags"));
	Descriptor fd(bpf_map_create(type, name.c_str(), key_size, value_size, max_entries, &options));
	if (fd.get() < 0)
		fail(info.Env(), errno, "bpf_map_create", name);
	return make_handle(State::of(info.Env()).map, std::move(fd), name);
}

BpfMap::BpfMap(const Napi::CallbackInfo &info) : Napi::ObjectWrap<BpfMap>(info), handle_(info, &Counters::maps)
{
	uint32_t length = sizeof(info_);
	if (bpf_obj_get_info_by_fd(handle_.fd(info.Env(), "info"), &info_, &length) < 0)
		fail(info.Env(), errno, "bpf_obj_get_info_by_fd", handle_.name);
	info.This().As<Napi::Object>().TypeTag(&tag);
}

Napi::Value BpfMap::info(const Napi::CallbackInfo &info)
{
	handle_.fd(info.Env(), "info");
	Napi::Object result = Napi::Object::New(info.Env());
	result.Set("id", info_.id);
	result.Set("name", std::string(info_.name, strnlen(info_.name, sizeof(info_.name))));
	result.Set("type", info_.type);
	result.Set("keySize", info_.key_size);
	result.Set("valueSize", info_.value_size);
	result.Set("maxEntries", info_.max_entries);
	result.Set("flags", info_.map_flags);
	return result;
}

size_t BpfMap::value_bytes(Napi::Env env) const
{
	if (!is_per_cpu(info_.type))
		return info_.value_size;
	int cpus = libbpf_num_possible_cpus();
	if (cpus < 0)
		fail(env, cpus, "libbpf_num_possible_cpus", handle_.name);
	return round_up_8(info_.value_size) * static_cast<size_t>(cpus);
}

void BpfMap::check_size(Napi::Env env, const char *call, const char *what, size_t size, size_t expected) const
{
	if (size != expected)
		fail(env, EINVAL, call, handle_.name,
		     std::string(what) + ": " + std::to_string(size) + " bytes, not " + std::to_string(expected));
}

Napi::Value BpfMap::lookup(const Napi::CallbackInfo &info)
{
	constexpr const char *call = "bpf_map_lookup_elem";
	Napi::Env env = info.Env();
	int fd = handle_.fd(env, call);
	Bytes key = bytes_argument(info, 0, "key");
	check_size(env, call, "key", key.size, info_.key_size);
	std::vector<uint8_t> value(value_bytes(env));

	if (retry([&] { return bpf_map_lookup_elem(fd, key.data, value.data()); }) < 0) {
		if (errno == ENOENT)
			return env.Undefined();
		fail(env, errno, call, handle_.name);
	}
	return Napi::Buffer<uint8_t>::Copy(env, value.data(), value.size());
}

void BpfMap::update(const Napi::CallbackInfo &info)
{
	constexpr const char *call = "bpf_map_update_elem";
	Napi::Env env = info.Env();
	int fd = handle_.fd(env, call);
	Bytes key = bytes_argument(info, 0, "key");
	Bytes value = bytes_argument(info, 1, "value");
	uint32_t flags = info[2].IsUndefined() ? 0 : uint32_argument(info, 2, "flags");
	check_size(env, call, "key", key.size, info_.key_size);
	check_size(env, call, "value", value.size, value_bytes(env));

	if (retry([&] { return bpf_map_update_elem(fd, key.data, value.data, flags); }) < 0)
		fail(env, errno, call, handle_.name);
}

Napi::Value BpfMap::remove(const Napi::CallbackInfo &info)
{
	constexpr const char *call = "bpf_map_delete_elem";
	Napi::Env env = info.Env();
	int fd = handle_.fd(env, call);
	Bytes key = bytes_argument(info, 0, "key");
	check_size(env, call, "key", key.size, info_.key_size);

	if (retry([&] { return bpf_map_delete_elem(fd, key.data); }) < 0) {
		if (errno == ENOENT)
			return Napi::Boolean::New(env, false);
		fail(env, errno, call, handle_.name);
	}
	return Napi::Boolean::New(env, true);
}

Napi::Value BpfMap::lookup_batch(const Napi::CallbackInfo &info)
{
	constexpr const char *call = "bpf_map_lookup_batch";
	Napi::Env env = info.Env();
	int fd = handle_.fd(env, call);
	auto opts = options<bpf_map_batch_opts>();
	size_t key_bytes = info_.key_size;
	size_t one_value = value_bytes(env);
	// The kernel's cursor is a key, or the 32-bit number of a hash's bucket.
	std::vector<uint8_t> position(std::max<size_t>(key_bytes, 8)), next(position.size());
	std::vector<uint8_t> keys, values;
	size_t taken = 0;
	uint32_t room = std::min(std::max(info_.max_entries, 1u), first_batch);

	for (bool started = false, more = true; more;) {
		keys.resize((taken + room) * key_bytes);
		values.resize((taken + room) * one_value);
		uint32_t count = room;
		if (bpf_map_lookup_batch(fd, started ? position.data() : nullptr, next.data(),
					 keys.data() + taken * key_bytes, values.data() + taken * one_value, &count,
					 &opts) < 0) {
			if (errno == EINTR)
				continue;
			if (errno == ENOSPC) { // One bucket holds more than there is room for.
				room *= 2;
				continue;
			}
			if (errno != ENOENT)
				fail(env, errno, call, handle_.name);
			more = false;
		}
		taken += count;
		position = next;
		started = true;
	}

	Napi::Object result = Napi::Object::New(env);
	result.Set("count", static_cast<double>(taken));
	result.Set("keys", Napi::Buffer<uint8_t>::Copy(env, keys.data(), taken * key_bytes));
	result.Set("values", Napi::Buffer<uint8_t>::Copy(env, values.data(), taken * one_value));
	return result;
}

void BpfMap::update_batch(const Napi::CallbackInfo &info)
{
	constexpr const char *call = "bpf_map_update_batch";
	Napi::Env env = info.Env();
	int fd = handle_.fd(env, call);
	auto opts = options<bpf_map_batch_opts>();
	Bytes keys = bytes_argument(info, 0, "keys");
	Bytes values = bytes_argument(info, 1, "values");
	uint32_t count = uint32_argument(info, 2, "count");
	size_t one_value = value_bytes(env);
	check_size(env, call, "keys", keys.size, size_t{count} * info_.key_size);
	check_size(env, call, "values", values.size, count * one_value);

	while (count > 0) {
		uint32_t done = count;
		int result = bpf_map_update_batch(fd, keys.data, values.data, &done, &opts);
		if (result < 0 && errno != EINTR)
			fail(env, errno, call, handle_.name);
		if (result < 0 && done == count) // Interrupted before the kernel wrote how far it came.
			done = 0;
		keys.data += size_t{done} * info_.key_size;
		values.data += done * one_value;
		count -= done;
	}
}

int BpfMap::mappable_fd(Napi::Env env) const
{
	int fd = handle_.fd(env, "mmap");
	if (info_.type != BPF_MAP_TYPE_ARRAY || !(info_.map_flags & BPF_F_MMAPABLE))
		fail(env, EINVAL, "mmap", handle_.name, "only an array with BPF_F_MMAPABLE can be mapped");
	return fd;
}

size_t BpfMap::mapped_bytes() const
{
	return round_up_8(info_.value_size) * info_.max_entries;
}

Napi::Value BpfMap::mmap(const Napi::CallbackInfo &info)
{
	return mapping_.buffer(info.Env(), mappable_fd(info.Env()), mapped_bytes(), handle_.name);
}

/** mmapPart(offset, length) */
Napi::Value BpfMap::mmap_part(const Napi::CallbackInfo &info)
{
	Napi::Env env = info.Env();
	int fd = mappable_fd(env);
	size_t offset = uint32_argument(info, 0, "offset");
	size_t length = uint32_argument(info, 1, "length");
	if (length == 0 || offset + length > mapped_bytes())
		fail(env, EINVAL, "mmap", handle_.name,
		     "bytes " + std::to_string(offset) + " to " + std::to_string(offset + length) + " of " +
			 std::to_string(mapped_bytes()));
	return mapping_.part(env, fd, offset, length, handle_.name);
}

void BpfMap::unmap(const Napi::CallbackInfo &info)
{
	handle_.fd(info.Env(), "munmap");
	mapping_.end();
}

void BpfMap::pin(const Napi::CallbackInfo &info)
{
	handle_.pin(info);
}

void BpfMap::close(const Napi::CallbackInfo &)
{
	handle_.close();
}
