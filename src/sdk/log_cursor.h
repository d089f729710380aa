// Positions in log files as text (spec/sdk.md section 8).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace msb::sdk {

// Inode 0: the file did not exist.
struct LogPosition {
    std::uint64_t inode = 0;
    std::uint64_t offset = 0;  // of the next byte to read
    bool operator==(const LogPosition&) const = default;
};

// Padded base64 of: u8 count, then per file u64 LE inode, u64 LE offset.
std::string encode_log_cursor(const std::vector<LogPosition>& positions);
// Throws Error{kInvalidCursor} "cursor is not valid base64", "cursor payload has unexpected length (N bytes)".
std::vector<LogPosition> decode_log_cursor(std::string_view text);

}  // namespace msb::sdk
