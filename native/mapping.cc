// SPDX-License-Identifier: Apache-2.0
#include "mapping.h"

#include "error.h"

#include <sys/mman.h>
#include <unistd.h>

namespace
{
/** Buffers of Node 20 end at 4 GiB; past that Node would call the finalizer and throw, both. */
constexpr size_t size_limit = UINT32_MAX;

size_t round_up_page(size_t size)
{
	size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
	return (size + page - 1) / page * page;
}
} // namespace

Mapping::Mapping(void *address, size_t length, std::shared_ptr<Counters> counters)
    : address_(address), length_(length), counters_(std::move(counters))
{
	counters_->mappings += 1;
	counters_->mapped_bytes += length_;
}

Mapping::~Mapping()
{
	unmap();
}

void Mapping::unmap()
{
	if (!address_)
		return;
	munmap(address_, length_);
	address_ = nullptr;
	counters_->mappings -= 1;
	counters_->mapped_bytes -= length_;
}

SharedMapping::Region SharedMapping::map(Napi::Env env, int fd, size_t offset, size_t size, const std::string &name)
{
	if (size > size_limit)
		fail(env, EFBIG, "mmap", name);

	size_t length = round_up_page(size);
	void *address = ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd, static_cast<off_t>(offset));
	if (address == MAP_FAILED)
		fail(env, errno, "mmap", name);
	auto mapping = std::make_shared<Mapping>(address, length, State::of(env).counters);
	// V8 counts the buffer's bytes as external memory by itself; to count them again would only hasten collections.
	auto *owner = new std::shared_ptr<Mapping>(mapping);
	Napi::ArrayBuffer created = Napi::ArrayBuffer::New(
	    env, address, size, [](Napi::BasicEnv, void *, std::shared_ptr<Mapping> *held) { delete held; }, owner);
	return {Napi::Reference<Napi::ArrayBuffer>::New(created, 0), mapping};
}

Napi::Value SharedMapping::buffer(Napi::Env env, int fd, size_t size, const std::string &name)
{
	if (!whole_.buffer.IsEmpty()) {
		Napi::ArrayBuffer existing = whole_.buffer.Value();
		if (!existing.IsEmpty() && !existing.IsDetached())
			return existing;
	}
	whole_ = map(env, fd, 0, size, name);
	return whole_.buffer.Value();
}

Napi::Value SharedMapping::part(Napi::Env env, int fd, size_t offset, size_t size, const std::string &name)
{
	parts_.push_back(map(env, fd, offset, size, name));
	return parts_.back().buffer.Value();
}

void SharedMapping::end()
{
	whole_.end();
	for (Region &part : parts_)
		part.end();
	parts_.clear();
}

void SharedMapping::Region::end()
{
	Napi::ArrayBuffer existing = buffer.IsEmpty() ? Napi::ArrayBuffer() : buffer.Value();
	buffer.Reset();
	// Unreachable, or its memory moved to another ArrayBuffer (transfer()): then the finalizer alone may unmap.
	if (existing.IsEmpty() || existing.IsDetached())
		return;
	existing.Detach();
	if (auto held = mapping.lock())
		held->unmap();
}
