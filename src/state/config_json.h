// JSON forms of the configuration types, for the other documents that embed them (launch JSON, command-line output).
// Include only from .cpp files: it pulls in nlohmann-json. Readers throw json::ParseError.
#pragma once

#include "base/json.h"
#include "state/sandbox_config.h"

namespace msb::state {

SandboxConfig sandbox_config_from_json(const json::Value& value);
json::Value to_json(const SandboxConfig& config);

NetworkConfig network_config_from_json(const json::Value& value);
json::Value to_json(const NetworkConfig& network);

Mount mount_from_json(const json::Value& value);
json::Value to_json(const Mount& mount);

RootDisk root_disk_from_json(const json::Value& value);
json::Value to_json(const RootDisk& disk);

SecretSource secret_source_from_json(const json::Value& value);
json::Value to_json(const SecretSource& source);

}  // namespace msb::state
