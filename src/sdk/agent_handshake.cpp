#include "sdk/agent_handshake.h"

#include <algorithm>

namespace msb::sdk {

using protocol::kHandshakeHeadSize;

std::expected<std::optional<Handshake>, std::string> parse_handshake(protocol::ByteView bytes) {
    if (bytes.size() < kHandshakeHeadSize) return std::nullopt;
    auto head = protocol::parse_handshake_head(bytes.first<kHandshakeHeadSize>());
    if (!head) return std::unexpected(head.error());
    // The second word of a pre-0.5 relay is already the length prefix of its ready frame.
    const std::size_t frame_at = head->legacy ? protocol::kLengthPrefix : kHandshakeHeadSize;

    protocol::FrameReader reader;
    reader.append(bytes.subspan(frame_at));
    const std::optional<protocol::FrameView> frame = reader.next();
    if (reader.error()) return std::unexpected("read ready frame: protocol: " + *reader.error());
    if (!frame) return std::nullopt;
    auto accepted = protocol::accept_ready(*head, *frame);
    if (!accepted) return std::unexpected(accepted.error());
    Handshake result;
    result.first_id = std::max(head->ids.start, 1U);
    result.end_id = head->ids.end_exclusive;
    result.generation = accepted->generation;
    result.ready = std::move(accepted->ready);
    result.consumed = frame_at + frame->frame.size();
    return result;
}

std::string handshake_interrupted(std::size_t received, bool timed_out) {
    if (received < kHandshakeHeadSize)
        return timed_out ? "read id range: timed out before relay sent bytes" : "early eof";
    return timed_out ? "read ready frame: timed out before relay sent frame"
                     : "read ready frame: protocol: io error: early eof";
}

}  // namespace msb::sdk
