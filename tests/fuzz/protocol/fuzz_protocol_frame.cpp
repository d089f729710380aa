// A byte stream as a peer may send it: FrameReader, envelope, and the payload decoder of the type it names. The first
// byte says how large the pieces are in which a second reader gets the same stream; both must see the same frames.
#include <algorithm>
#include <cstdint>
#include <vector>

#include "fuzz/protocol/check_message.h"
#include "protocol/handshake.h"

namespace {

using namespace msb::protocol;
using msb::test::require;

struct Seen {
    std::vector<std::vector<std::byte>> frames;
    std::optional<std::string> error;
    std::size_t left = 0;
    bool operator==(const Seen&) const = default;
};

void drain(FrameReader& reader, Seen& seen) {
    while (const auto frame = reader.next()) {
        require(frame->frame.size() == kHeaderSize + frame->body.size());
        seen.frames.emplace_back(frame->frame.begin(), frame->frame.end());
    }
    seen.error = reader.error();
    seen.left = reader.buffered();
}

void check_frame(ByteView frame) {
    const auto envelope = decode_envelope(frame.subspan(kHeaderSize));
    if (!envelope) {
        require(!envelope.error().message.empty());
        return;
    }
    const auto copy = *envelope;
    require(copy.type_name == envelope->type_name && copy.type == message_type(copy.type_name));
    if (envelope->type) msb::test::check_payload(*envelope->type, envelope->payload.span());
    static_cast<void>(accept_ready({.ids = id_range(0)}, {.body = frame.subspan(kHeaderSize)}));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const std::size_t piece = std::size_t{data[0]} + 1;
    const ByteView stream = std::as_bytes(std::span(data + 1, size - 1));

    FrameReader whole;
    Seen expected;
    whole.append(stream);
    drain(whole, expected);

    FrameReader split;
    Seen seen;
    for (std::size_t at = 0; at < stream.size(); at += piece) {
        const ByteView part = stream.subspan(at, std::min(piece, stream.size() - at));
        std::ranges::copy(part, split.writable(part.size()).begin());
        split.commit(part.size());
        drain(split, seen);
    }
    if (!stream.empty()) require(seen == expected);
    for (const auto& frame : expected.frames)
        check_frame(frame);
    if (stream.size() >= kHandshakeHeadSize)
        static_cast<void>(parse_handshake_head(stream.first<kHandshakeHeadSize>()));
    return 0;
}
