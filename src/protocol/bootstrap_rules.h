// What a core.bootstrap payload must satisfy beyond its types (spec/guest-agent.md section 3): checked by the host before
// it boots a VM with it and by the guest before it acts on it.
#pragma once

#include <optional>
#include <string>

#include "protocol/messages.h"

namespace msb::protocol {

// The first broken rule, in declaration order of the fields, as the text behind "config error: "; nullopt when valid.
std::optional<std::string> validate_bootstrap(const Bootstrap& bootstrap);

}  // namespace msb::protocol
