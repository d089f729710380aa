#include "protocol/handshake.h"

#include <limits>
#include <utility>

namespace msb::protocol {

namespace {

constexpr std::uint32_t kLegacyIdRangeStep = 268'435'455;  // section 13: 16 slots
constexpr std::uint8_t kLegacyGeneration = 1;

std::uint32_t read_u32(const std::byte* from) noexcept {
    std::uint32_t value = 0;
    for (int i = 0; i < 4; ++i)
        value = value << 8 | std::to_integer<std::uint32_t>(from[i]);
    return value;
}

constexpr std::uint32_t saturating_add(std::uint32_t a, std::uint32_t b) noexcept {
    const std::uint32_t sum = a + b;
    return sum < a ? std::numeric_limits<std::uint32_t>::max() : sum;
}

// Section 13: the second word is a plausible frame length and the first word no plausible start for it as an end.
constexpr bool is_legacy(std::uint32_t first, std::uint32_t second) noexcept {
    return second >= kMinFrameLength && second <= kMaxFrameLength &&
           (first == 0 || first >= second);
}

constexpr bool no_range_looks_legacy() {
    for (std::uint32_t slot = 0; slot < kMaxClients; ++slot)
        if (is_legacy(id_range(slot).start, id_range(slot).end_exclusive)) return false;
    return true;
}
static_assert(no_range_looks_legacy(), "clients would misread our handshake");

std::string range_text(IdRange range) {
    return "start=" + std::to_string(range.start) + ", end=" + std::to_string(range.end_exclusive);
}

}  // namespace

std::array<std::byte, kHandshakeHeadSize> encode_handshake_head(IdRange range) noexcept {
    std::array<std::byte, kHandshakeHeadSize> head;
    for (std::size_t i = 0; i < 4; ++i) {
        const std::size_t shift = 8 * (3 - i);
        head[i] = static_cast<std::byte>(range.start >> shift & 0xff);
        head[4 + i] = static_cast<std::byte>(range.end_exclusive >> shift & 0xff);
    }
    return head;
}

std::expected<HandshakeHead, std::string> parse_handshake_head(
    std::span<const std::byte, kHandshakeHeadSize> head) {
    const std::uint32_t first = read_u32(head.data());
    const std::uint32_t second = read_u32(head.data() + 4);
    HandshakeHead parsed{.ids = {first, second}, .legacy = is_legacy(first, second)};
    if (parsed.legacy)
        parsed.ids = {saturating_add(first, 1), saturating_add(first, kLegacyIdRangeStep)};
    if (parsed.ids.start >= parsed.ids.end_exclusive)
        return std::unexpected("invalid relay id range: " + range_text(parsed.ids));
    return parsed;
}

std::expected<AcceptedReady, std::string> accept_ready(const HandshakeHead& head,
                                                       const FrameView& frame) {
    if (head.ids.end_exclusive <= std::max(head.ids.start, std::uint32_t{1}))
        return std::unexpected("relay id range contains no usable nonzero ids: " +
                               range_text(head.ids));
    const auto envelope = decode_envelope(frame.body);
    if (!envelope) return std::unexpected("decode ready frame: " + envelope.error().message);
    if (envelope->type != MessageType::kReady)
        return std::unexpected("expected core.ready frame, got " +
                               std::string(envelope->type_name));
    auto ready = decode_payload<Ready>(envelope->payload.span());
    if (!ready) return std::unexpected("decode ready frame: " + ready.error().message);
    const std::uint8_t generation =
        head.legacy ? kLegacyGeneration : negotiated_generation(envelope->generation);
    return AcceptedReady{.ready = std::move(*ready), .generation = generation};
}

bool is_supported(MessageType type, std::uint8_t negotiated) noexcept {
    return message_info(type).generation <= negotiated;
}

std::string too_old_message(MessageType type, std::uint8_t negotiated) {
    const MessageInfo& info = message_info(type);
    return "the sandbox runtime is too old for '" + std::string(info.name) +
           "' (needs protocol generation " + std::to_string(info.generation) +
           ", the sandbox speaks " + std::to_string(negotiated) +
           "); restart the sandbox to update its runtime";
}

}  // namespace msb::protocol
