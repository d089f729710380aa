// The guest configuration (`bootstrap` of the launch document) in its three written forms: JSON, and the MSB_*
// variables of launchers before 0.6 (spec/sandbox-process.md sections 4.2 and 19). The CBOR form is protocol/codec.h.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <string>
#include <vector>

#include "protocol/messages.h"

namespace msb::contract {

// Throws json::ParseError. Unknown keys are ignored; our own extensions (runtime_files, runtime_share, entropy) have no
// JSON form: the sandbox process fills them in.
protocol::Bootstrap bootstrap_from_json(const nlohmann::ordered_json& value);

// Keys in declaration order; empty lists and absent optionals are left out, `security_profile` never.
nlohmann::ordered_json bootstrap_to_json(const protocol::Bootstrap& bootstrap);

// Maps "KEY=VALUE" entries: MSB_* variables to their fields, all others to default_env (the last duplicate wins).
// Entries without '=' are dropped. Throws json::ParseError with a text naming the variable.
protocol::Bootstrap bootstrap_from_env(const std::vector<std::string>& env);

}  // namespace msb::contract
