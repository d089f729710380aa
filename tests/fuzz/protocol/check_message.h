// The property both protocol fuzzers check of every payload.
#pragma once

#include <cstdlib>

#include "protocol/bootstrap_rules.h"
#include "support/any_message.h"

namespace msb::test {

inline void require(bool holds) {
    if (!holds) std::abort();
}

// Whatever decodes can be written, and what is written decodes to the same and is written the same again.
inline void check_payload(protocol::MessageType type, protocol::ByteView payload) {
    const auto message = decode_any(type, payload);
    if (!message) {
        require(!message.error().message.empty());
        return;
    }
    const auto written = payload_of(*message);
    const auto reread = decode_any(type, written);
    require(reread.has_value());
    require(*reread == *message);
    require(payload_of(*reread) == written);
    if (const auto* bootstrap = std::get_if<protocol::Bootstrap>(&*message))
        static_cast<void>(protocol::validate_bootstrap(*bootstrap));

    // The frame around it carries it unchanged, or does not fit.
    protocol::ByteBuffer frame;
    if (!append_any(frame, 1, *message)) return;
    protocol::FrameReader reader;
    reader.append(frame);
    const auto view = reader.next();
    require(view.has_value() && reader.buffered() == 0);
    const auto envelope = protocol::decode_envelope(view->body);
    require(envelope.has_value() && envelope->type == type);
    require(std::ranges::equal(envelope->payload.span(), written));
}

}  // namespace msb::test
