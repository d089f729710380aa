// What the relay says first on every connection (spec/protocol.md sections 7.2 and 13), read from a growing buffer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <optional>
#include <string>

#include "protocol/handshake.h"

namespace msb::sdk {

struct Handshake {
    std::uint32_t first_id = 1;   // never 0
    std::uint32_t end_id = 2;     // exclusive, > first_id
    std::uint8_t generation = 1;  // negotiated
    protocol::Ready ready;
    std::size_t consumed = 0;  // bytes of the input the handshake took
};

// The bytes received so far. nullopt: not complete yet. The error text goes after "handshake: ".
std::expected<std::optional<Handshake>, std::string> parse_handshake(protocol::ByteView bytes);

// The error text (after "handshake: ") when the stream ends or the deadline passes with only these bytes received.
std::string handshake_interrupted(std::size_t received, bool timed_out);

}  // namespace msb::sdk
