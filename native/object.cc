// SPDX-License-Identifier: Apache-2.0
#include "object.h"

#include "arguments.h"
#include "error.h"
#include "map.h"
#include "program.h"

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <cstring>
#include <fcntl.h>
#include <string_view>
#include <unistd.h>

const napi_type_tag BpfObject::tag = {0x786c622d6f626a04, 0x8f2f6c0a41d94e04};

namespace
{
/** A section of global variables that stands for a table: its map has as many elements as it was made with. */
bool is_table(const bpf_map *map)
{
	return std::string_view(bpf_map__name(map)).substr(0, 6) == ".data.";
}

/**
 * Puts a larger map in a section's place. libbpf keeps memory of the section's size for it, and bpf_map__reuse_fd would
 * make it believe that this memory has the larger map's size: on close it would unmap what lies behind. So it is given
 * a map of the section's own size, whose descriptor then becomes that of the larger one.
 */
int reuse_as_table(bpf_map *section, int fd)
{
	LIBBPF_OPTS(bpf_map_create_opts, options, .map_flags = bpf_map__map_flags(section));
	Descriptor stand_in(bpf_map_create(BPF_MAP_TYPE_ARRAY, "stand_in", bpf_map__key_size(section),
					   bpf_map__value_size(section), 1, &options));
	if (stand_in.get() < 0)
		return -errno;
	int error = bpf_map__reuse_fd(section, stand_in.get());
	if (error)
		return error;
	return dup3(fd, bpf_map__fd(section), O_CLOEXEC) < 0 ? -errno : 0;
}

/** Flags that the kernel sets by itself, and that a map's definition therefore lacks. */
uint32_t implied_flags(uint32_t type)
{
	return type == BPF_MAP_TYPE_DEVMAP || type == BPF_MAP_TYPE_DEVMAP_HASH ? BPF_F_RDONLY_PROG : 0;
}

std::string difference(const bpf_map *mine, const bpf_map_info &other)
{
	uint32_t type = bpf_map__type(mine);
	if (type != other.type)
		return "type " + std::to_string(other.type) + ", not " + std::to_string(type);
	if (bpf_map__key_size(mine) != other.key_size)
		return "key size " + std::to_string(other.key_size) + ", not " +
		       std::to_string(bpf_map__key_size(mine));
	uint32_t size = bpf_map__value_size(mine);
	if (is_table(mine) ? size > other.value_size : size != other.value_size)
		return "value size " + std::to_string(other.value_size) + ", not " +
		       std::to_string(bpf_map__value_size(mine));
	uint32_t implied = implied_flags(type);
	if ((bpf_map__map_flags(mine) | implied) != (other.map_flags | implied))
		return "flags " + std::to_string(other.map_flags) + ", not " + std::to_string(bpf_map__map_flags(mine));
	return "";
}

/** Where a variable lies within .rodata, from the object's BTF; nullptr: there is none of that name. */
const btf_var_secinfo *find_constant(const btf *types, const std::string &name)
{
	int id = types ? btf__find_by_name_kind(types, ".rodata", BTF_KIND_DATASEC) : -1;
	if (id < 0)
		return nullptr;
	const btf_type *section = btf__type_by_id(types, static_cast<uint32_t>(id));
	const btf_var_secinfo *variable = btf_var_secinfos(section);
	for (int left = btf_vlen(section); left > 0; left--, variable++)
		if (name == btf__name_by_offset(types, btf__type_by_id(types, variable->type)->name_off))
			return variable;
	return nullptr;
}

Descriptor duplicate(Napi::Env env, int fd, const std::string &name)
{
	if (fd < 0)
		fail(env, EINVAL, "fcntl", name, "it is not loaded");
	Descriptor copy(fcntl(fd, F_DUPFD_CLOEXEC, 0));
	if (copy.get() < 0)
		fail(env, errno, "fcntl", name);
	return copy;
}
} // namespace

void BpfObject::define(Napi::Env env)
{
	State::of(env).object = Napi::Persistent(DefineClass(
	    env, class_name,
	    {
		InstanceMethod<&BpfObject::set_max_entries>("setMaxEntries"),
		InstanceMethod<&BpfObject::reuse_map>("reuseMap"),
		InstanceMethod<&BpfObject::set_constant>("setConstant"),
		InstanceMethod<&BpfObject::fill_placeholder>("fillPlaceholder"),
		InstanceMethod<&BpfObject::set_autoload>("setAutoload"),
		InstanceMethod<&BpfObject::set_multi_buffer>("setMultiBuffer"),
		InstanceMethod<&BpfObject::load>("load"),
		InstanceMethod<&BpfObject::map>("map"),
		InstanceMethod<&BpfObject::program>("program"),
		InstanceMethod<static_cast<void (BpfObject::*)(const Napi::CallbackInfo &)>(&BpfObject::close)>(
		    "close"),
	    }));
	define_getter<BpfObject, &BpfObject::map_names>(State::of(env).object, "mapNames");
	define_getter<BpfObject, &BpfObject::program_names>(State::of(env).object, "programNames");
}

Napi::Value BpfObject::open(const Napi::CallbackInfo &info)
{
	std::string path = text_argument(info, 0, "path");
	return State::of(info.Env()).object.New({Napi::External<std::string>::New(info.Env(), &path)});
}

BpfObject::BpfObject(const Napi::CallbackInfo &info)
    : Napi::ObjectWrap<BpfObject>(info), counters_(State::of(info.Env()).counters)
{
	if (!info[0].IsExternal())
		throw Napi::TypeError::New(info.Env(), "Illegal constructor");
	path_ = *info[0].As<Napi::External<std::string>>().Data();

	register_placeholder_handlers();
	LibbpfLog log;
	object_ = bpf_object__open_file(path_.c_str(), nullptr);
	if (!object_)
		fail(info.Env(), errno, "bpf_object__open_file", path_, "", log.text());
	counters_->objects += 1;

	bpf_map *map;
	bpf_object__for_each_map(map, object_) maps_.emplace_back(bpf_map__name(map), map);
	info.This().As<Napi::Object>().TypeTag(&tag);
}

BpfObject::~BpfObject()
{
	close();
}

void BpfObject::close()
{
	if (!object_)
		return;
	bpf_object__close(object_);
	object_ = nullptr;
	maps_.clear();
	counters_->objects -= 1;
}

void BpfObject::close(const Napi::CallbackInfo &)
{
	close();
}

void BpfObject::check_open(Napi::Env env, const char *call) const
{
	if (!object_)
		fail(env, EBADF, call, path_);
}

void BpfObject::check_unloaded(Napi::Env env, const char *call) const
{
	check_open(env, call);
	if (load_tried_)
		fail(env, EBUSY, call, path_, "load() has been called");
}

bpf_map *BpfObject::find_map(Napi::Env env, const std::string &name) const
{
	for (const auto &[known, map] : maps_)
		if (known == name)
			return map;
	fail(env, ENOENT, "bpf_object__find_map_by_name", name);
}

bpf_program *BpfObject::find_program(Napi::Env env, const std::string &name) const
{
	bpf_program *program = bpf_object__find_program_by_name(object_, name.c_str());
	if (!program)
		fail(env, ENOENT, "bpf_object__find_program_by_name", name);
	return program;
}

Napi::Value BpfObject::map_names(const Napi::CallbackInfo &info)
{
	check_open(info.Env(), "mapNames");
	Napi::Array names = Napi::Array::New(info.Env());
	for (uint32_t i = 0; i < maps_.size(); i++)
		names.Set(i, maps_[i].first);
	return names;
}

Napi::Value BpfObject::program_names(const Napi::CallbackInfo &info)
{
	check_open(info.Env(), "programNames");
	Napi::Array names = Napi::Array::New(info.Env());
	bpf_program *program;
	uint32_t i = 0;
	bpf_object__for_each_program(program, object_) names.Set(i++, bpf_program__name(program));
	return names;
}

void BpfObject::set_max_entries(const Napi::CallbackInfo &info)
{
	constexpr const char *call = "bpf_map__set_max_entries";
	check_unloaded(info.Env(), call);
	std::string name = text_argument(info, 0, "map");
	uint32_t entries = uint32_argument(info, 1, "maxEntries");
	int error = bpf_map__set_max_entries(find_map(info.Env(), name), entries);
	if (error)
		fail(info.Env(), error, call, name);
}

void BpfObject::reuse_map(const Napi::CallbackInfo &info)
{
	constexpr const char *call = "bpf_map__reuse_fd";
	check_unloaded(info.Env(), call);
	std::string name = text_argument(info, 0, "name");
	BpfMap &other = handle_argument<BpfMap>(info, 1, "map");
	bpf_map *mine = find_map(info.Env(), name);
	int fd = other.fd(info.Env(), call);
	std::string differs = difference(mine, other.layout());
	if (!differs.empty())
		fail(info.Env(), EINVAL, call, name, differs);

	LibbpfLog log;
	int error = is_table(mine) ? reuse_as_table(mine, fd) : bpf_map__reuse_fd(mine, fd);
	if (error)
		fail(info.Env(), error, call, name, "", log.text());
}

void BpfObject::set_constant(const Napi::CallbackInfo &info)
{
	constexpr const char *call = "setConstant";
	Napi::Env env = info.Env();
	check_unloaded(env, call);
	std::string name = text_argument(info, 0, "name");
	Bytes value = bytes_argument(info, 1, "value");
	const btf_var_secinfo *variable = find_constant(bpf_object__btf(object_), name);
	bpf_map *section = bpf_object__find_map_by_name(object_, ".rodata");
	size_t section_size = 0;
	// Writable until load(); libbpf's const guards those who would write later.
	const void *initial = section ? bpf_map__initial_value(section, &section_size) : nullptr;
	auto *memory = static_cast<uint8_t *>(const_cast<void *>(initial));
	if (!variable || !memory)
		fail(env, ENOENT, call, name);
	if (value.size != variable->size)
		fail(env, EINVAL, call, name,
		     std::to_string(value.size) + " bytes, not " + std::to_string(variable->size));
	if (size_t{variable->offset} + variable->size > section_size)
		fail(env, EINVAL, call, name, "it lies outside .rodata");
	memcpy(memory + variable->offset, value.data, value.size);
}

void BpfObject::fill_placeholder(const Napi::CallbackInfo &info)
{
	Napi::Env env = info.Env();
	check_unloaded(env, "fillPlaceholder");
	uint32_t placeholder = uint32_argument(info, 0, "placeholder");
	bool lossless = info[1].IsBigInt();
	uint64_t value = lossless ? info[1].As<Napi::BigInt>().Uint64Value(&lossless) : 0;
	if (!lossless)
		wrong_type(env, "value", "BigInt of 64 bits");
	placeholders_[placeholder] = value;
}

void BpfObject::set_autoload(const Napi::CallbackInfo &info)
{
	constexpr const char *call = "bpf_program__set_autoload";
	check_unloaded(info.Env(), call);
	std::string name = text_argument(info, 0, "program");
	bool autoload = boolean_argument(info, 1, "autoload");
	int error = bpf_program__set_autoload(find_program(info.Env(), name), autoload);
	if (error)
		fail(info.Env(), error, call, name);
}

void BpfObject::set_multi_buffer(const Napi::CallbackInfo &info)
{
	constexpr const char *call = "bpf_program__set_flags";
	check_unloaded(info.Env(), call);
	std::string name = text_argument(info, 0, "program");
	bpf_program *program = find_program(info.Env(), name);
	int error = bpf_program__set_flags(program, bpf_program__flags(program) | BPF_F_XDP_HAS_FRAGS);
	if (error)
		fail(info.Env(), error, call, name);
}

void BpfObject::load(const Napi::CallbackInfo &info)
{
	constexpr const char *call = "bpf_object__load";
	check_unloaded(info.Env(), call);
	load_tried_ = true;
	// libbpf asks the verifier for a log only after a refusal, by loading once more, and hands it to on_print.
	LibbpfLog log;
	FillingPlaceholders filling(placeholders_);
	int error = bpf_object__load(object_);
	if (error)
		fail(info.Env(), error, call, path_, "", log.text());
}

Napi::Value BpfObject::map(const Napi::CallbackInfo &info)
{
	check_open(info.Env(), "map");
	std::string name = text_argument(info, 0, "name");
	int fd = bpf_map__fd(find_map(info.Env(), name));
	return make_handle(State::of(info.Env()).map, duplicate(info.Env(), fd, name), name);
}

Napi::Value BpfObject::program(const Napi::CallbackInfo &info)
{
	check_open(info.Env(), "program");
	std::string name = text_argument(info, 0, "name");
	int fd = bpf_program__fd(find_program(info.Env(), name));
	return make_handle(State::of(info.Env()).program, duplicate(info.Env(), fd, name), name);
}
