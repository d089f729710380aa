// Bringing up lo and the sandbox's interface, without any tool of the image
// (spec/guest-agent.md section 5.5).
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "protocol/messages.h"

namespace msb::agentd {

// "100.96.1.2" or "fd42:6d73:62::1" from 4 or 16 bytes in network order.
std::string address_text(std::span<const std::uint8_t> bytes);

// "nameserver A\n" per family with a DNS address; "" when there is none.
std::string resolv_conf(const protocol::GuestNetwork& network);

// Throws Failure.
void set_up_network(const std::optional<protocol::GuestNetwork>& network);

}  // namespace msb::agentd
