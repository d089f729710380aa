// What a relay (or whatever answers on its socket) says first, and frames as exec sessions see them.
#include <cstdint>
#include <cstdlib>
#include <span>

#include "sdk/agent_client.h"
#include "sdk/agent_handshake.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const auto bytes = std::as_bytes(std::span(data, size));
    const auto parsed = msb::sdk::parse_handshake(bytes);
    if (parsed && *parsed) {
        const msb::sdk::Handshake& handshake = **parsed;
        if (handshake.first_id == 0 || handshake.end_id <= handshake.first_id ||
            handshake.consumed > size || handshake.generation > msb::protocol::kGeneration)
            std::abort();
        // A prefix never yields another answer, only "not complete yet".
        const auto shorter = msb::sdk::parse_handshake(bytes.first(handshake.consumed - 1));
        if (!shorter || *shorter) std::abort();
    }
    msb::sdk::AgentFrame frame{1, 0, {bytes.begin(), bytes.end()}};
    (void)msb::sdk::decode_frame(frame);
    return 0;
}
