#include "sdk/log_cursor.h"

#include "base/encoding.h"
#include "base/error.h"

namespace msb::sdk {

namespace {

constexpr std::size_t kEntryBytes = 16;
constexpr std::size_t kMaxFiles = 255;  // the count is one byte

void append_u64(std::string& out, std::uint64_t value) {
    for (int shift = 0; shift < 64; shift += 8)
        out.push_back(static_cast<char>(value >> shift & 0xff));
}

std::uint64_t u64_at(std::string_view bytes, std::size_t at) {
    std::uint64_t value = 0;
    for (std::size_t i = 8; i-- > 0;)
        value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
    return value;
}

}  // namespace

std::string encode_log_cursor(const std::vector<LogPosition>& positions) {
    const std::size_t count = std::min(positions.size(), kMaxFiles);
    std::string payload(1, static_cast<char>(count));
    for (std::size_t i = 0; i < count; ++i) {
        append_u64(payload, positions[i].inode);
        append_u64(payload, positions[i].offset);
    }
    return base64_encode(payload);
}

std::vector<LogPosition> decode_log_cursor(std::string_view text) {
    const auto payload = base64_decode(text);
    if (!payload) throw Error(ErrorCode::kInvalidCursor, "cursor is not valid base64");
    const std::size_t count = payload->empty() ? 0 : static_cast<unsigned char>(payload->front());
    if (payload->size() != 1 + count * kEntryBytes)
        throw Error(ErrorCode::kInvalidCursor, "cursor payload has unexpected length (" +
                                                   std::to_string(payload->size()) + " bytes)");
    std::vector<LogPosition> positions(count);
    for (std::size_t i = 0; i < count; ++i) {
        positions[i].inode = u64_at(*payload, 1 + i * kEntryBytes);
        positions[i].offset = u64_at(*payload, 1 + i * kEntryBytes + 8);
    }
    return positions;
}

}  // namespace msb::sdk
