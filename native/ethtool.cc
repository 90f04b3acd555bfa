// SPDX-License-Identifier: Apache-2.0
#include "ethtool.h"

#include "arguments.h"
#include "error.h"
#include "state.h"

#include <cstring>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <vector>

namespace
{
/** Memory for an ethtool structure that ends in an array, aligned as the widest of them needs. */
std::vector<uint64_t> memory(size_t bytes)
{
	return std::vector<uint64_t>((bytes + 7) / 8);
}

class Device
{
      public:
	Device(const Napi::CallbackInfo &info, const char *call)
	    : env_(info.Env()), call_(call), name_(text_argument(info, 0, "interfaceName")),
	      socket_(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0))
	{
		if (socket_.get() < 0)
			fail(env_, errno, "socket", name_);
		if (name_.size() >= IFNAMSIZ)
			fail(env_, ENODEV, call_, name_);
	}

	/** False: the device does not support that. Anything else that fails throws. */
	bool ask(void *command) const
	{
		ifreq request{};
		memcpy(request.ifr_name, name_.c_str(), name_.size());
		request.ifr_data = static_cast<char *>(command);
		if (retry([&] { return ioctl(socket_.get(), SIOCETHTOOL, &request); }) >= 0)
			return true;
		if (errno == EOPNOTSUPP)
			return false;
		fail(env_, errno, call_, name_);
	}

      private:
	Napi::Env env_;
	const char *call_;
	std::string name_;
	Descriptor socket_;
};

uint32_t feature_count(const Device &device)
{
	auto space = memory(sizeof(ethtool_sset_info) + sizeof(uint32_t));
	auto *sets = reinterpret_cast<ethtool_sset_info *>(space.data());
	sets->cmd = ETHTOOL_GSSET_INFO;
	sets->sset_mask = uint64_t{1} << ETH_SS_FEATURES;
	return device.ask(sets) && sets->sset_mask ? sets->data[0] : 0;
}
} // namespace

Napi::Value device_features(const Napi::CallbackInfo &info)
{
	Device device(info, "ETHTOOL_GFEATURES");
	Napi::Object result = Napi::Object::New(info.Env());
	uint32_t count = feature_count(device);
	uint32_t blocks = (count + 31) / 32;

	auto name_space = memory(sizeof(ethtool_gstrings) + size_t{count} * ETH_GSTRING_LEN);
	auto *names = reinterpret_cast<ethtool_gstrings *>(name_space.data());
	names->cmd = ETHTOOL_GSTRINGS;
	names->string_set = ETH_SS_FEATURES;
	names->len = count;
	auto feature_space = memory(sizeof(ethtool_gfeatures) + blocks * sizeof(ethtool_get_features_block));
	auto *features = reinterpret_cast<ethtool_gfeatures *>(feature_space.data());
	features->cmd = ETHTOOL_GFEATURES;
	features->size = blocks;
	if (count == 0 || !device.ask(names) || !device.ask(features))
		return result;

	for (uint32_t i = 0; i < count; i++) {
		auto *name = reinterpret_cast<const char *>(names->data + size_t{i} * ETH_GSTRING_LEN);
		size_t length = strnlen(name, ETH_GSTRING_LEN);
		if (length > 0)
			result.Set(std::string(name, length), (features->features[i / 32].active >> (i % 32) & 1) != 0);
	}
	return result;
}

Napi::Value device_driver(const Napi::CallbackInfo &info)
{
	ethtool_drvinfo driver{};
	driver.cmd = ETHTOOL_GDRVINFO;
	if (!Device(info, "ETHTOOL_GDRVINFO").ask(&driver))
		return Napi::String::New(info.Env(), "");
	return Napi::String::New(info.Env(), driver.driver, strnlen(driver.driver, sizeof(driver.driver)));
}

Napi::Value device_receive_channels(const Napi::CallbackInfo &info)
{
	ethtool_channels channels{};
	channels.cmd = ETHTOOL_GCHANNELS;
	if (!Device(info, "ETHTOOL_GCHANNELS").ask(&channels))
		return Napi::Number::New(info.Env(), 0);
	return Napi::Number::New(info.Env(), channels.rx_count + channels.combined_count);
}
