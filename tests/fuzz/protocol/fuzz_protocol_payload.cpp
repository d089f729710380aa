// One payload as a peer may send it: the first byte chooses the message type, the rest goes to its decoder.
#include <cstdint>
#include <span>

#include "fuzz/protocol/check_message.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const auto type = static_cast<msb::protocol::MessageType>(data[0] % msb::test::kMessageTypes);
    msb::test::check_payload(type, std::as_bytes(std::span(data + 1, size - 1)));
    return 0;
}
