// Private to state: the parts of a network document, one reader and writer each.
#pragma once

#include "base/json.h"
#include "state/config_json.h"

namespace msb::state {

SecretsConfig secrets_from_json(const json::Value& value);
json::Value to_json(const SecretsConfig& secrets);

OutboundProxy outbound_proxy_from_json(const json::Value& value);
json::Value to_json(const OutboundProxy& proxy);

PolicyConfig policy_from_json(const json::Value& value);
json::Value to_json(const PolicyConfig& policy);

}  // namespace msb::state
