// The relay's handshake (spec/protocol.md sections 7.2 and 13), id ranges and generation gating (section 6): what the
// relay and its clients share, without any I/O.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string>

#include "protocol/codec.h"

namespace msb::protocol {

// --- id ranges --------------------------------------------------------------------------------------------------

// The correlation ids one client may use.
struct IdRange {
    std::uint32_t start = 0;
    std::uint32_t end_exclusive = 0;
    constexpr bool contains(std::uint32_t id) const noexcept {
        return id >= start && id < end_exclusive;
    }
    bool operator==(const IdRange&) const = default;
};

// Of slot 0 .. kMaxClients - 1.
constexpr IdRange id_range(std::uint32_t slot) noexcept {
    return {slot * kIdRangeStep + 1, (slot + 1) * kIdRangeStep};
}

// The relay's rule for frames from the guest (section 7.4): where to send id.
constexpr std::uint32_t slot_of(std::uint32_t id) noexcept {
    return std::min(id / kIdRangeStep, kMaxClients - 1);
}

// The guest's rule for who owns a file handle (section 10). Differs from slot_of() only for ids no client has: 0 and the
// ends of ranges.
constexpr std::uint32_t owner_slot(std::uint32_t id) noexcept {
    return id == 0 ? 0 : (id - 1) / kIdRangeStep;
}

// --- handshake --------------------------------------------------------------------------------------------------

inline constexpr std::size_t kHandshakeHeadSize = 8;

// What the relay sends before the ready frame.
std::array<std::byte, kHandshakeHeadSize> encode_handshake_head(IdRange range) noexcept;

struct HandshakeHead {
    IdRange ids;
    // A relay before 0.5 (section 13): it sent 4 bytes only, and the last 4 of the 8 bytes are already the length prefix
    // of its ready frame. Its peers speak generation 1.
    bool legacy = false;
};

// Errors, here and below, are texts for behind the prefix "handshake: ".
std::expected<HandshakeHead, std::string> parse_handshake_head(
    std::span<const std::byte, kHandshakeHeadSize> head);

struct AcceptedReady {
    Ready ready;
    std::uint8_t generation = 0;  // negotiated: at most kGeneration, 1 with legacy peers
};

// The client's checks of the ready frame, in the order of section 7.2.
std::expected<AcceptedReady, std::string> accept_ready(const HandshakeHead& head,
                                                       const FrameView& frame);

// --- generations ------------------------------------------------------------------------------------------------

// With a peer whose core.ready carried `peer_generation`.
constexpr std::uint8_t negotiated_generation(std::uint8_t peer_generation) noexcept {
    return std::min(kGeneration, peer_generation);
}
// Whether a message of this type may be sent to such a peer. If not, too_old_message() says so to the user.
bool is_supported(MessageType type, std::uint8_t negotiated) noexcept;
std::string too_old_message(MessageType type, std::uint8_t negotiated);

}  // namespace msb::protocol
