// Resource limits by name (spec/guest-agent.md section 4).
#pragma once

#include <sys/resource.h>

#include <optional>
#include <string_view>
#include <vector>

#include "protocol/messages.h"

namespace msb::agentd {

// The Linux number of "nofile" etc., case-insensitive.
std::optional<int> rlimit_number(std::string_view name);

struct ResourceLimit {
    int resource;
    rlimit value;
};

// Known entries in request order; unknown names are skipped, as the spec has it for exec requests.
std::vector<ResourceLimit> resource_limits(const std::vector<protocol::Rlimit>& requested);

// Applies the sandbox-wide limits to this process. Throws Failure
// "init error: failed to apply rlimit R=S:H: E".
void apply_sandbox_rlimits(const std::vector<protocol::Rlimit>& limits);

}  // namespace msb::agentd
