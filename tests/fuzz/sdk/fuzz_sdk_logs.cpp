// Log files are written by guests, cursors come from anywhere. First byte: what the rest is.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "sdk/log_cursor.h"
#include "sdk/log_reader.h"

namespace {

using msb::sdk::LogFormat;
using msb::sdk::LogParser;
using msb::sdk::LogSourceSet;
using msb::sdk::ReadEntry;

void check_cursor(std::string_view text) {
    try {
        const auto positions = msb::sdk::decode_log_cursor(text);
        if (msb::sdk::decode_log_cursor(msb::sdk::encode_log_cursor(positions)) != positions)
            std::abort();
    } catch (const msb::Error& error) {
        if (error.code() != msb::ErrorCode::kInvalidCursor) std::abort();
    }
}

// However the bytes arrive, the entries and their positions are the same.
void check_parser(std::string_view text, LogFormat format, std::size_t piece) {
    LogSourceSet all;
    for (bool& wanted : all.wanted)
        wanted = true;
    LogParser whole(format, all), pieces(format, all);
    std::vector<ReadEntry> a, b;
    whole.feed(text, 1, a);
    whole.flush(1, a);
    for (std::size_t at = 0; at < text.size(); at += piece)
        pieces.feed(text.substr(at, piece), 1, b);
    pieces.flush(1, b);
    if (a.size() != b.size() || whole.position() != pieces.position()) std::abort();
    std::uint64_t last = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        if (a[i].entry.data != b[i].entry.data || a[i].after != b[i].after) std::abort();
        if (a[i].after.offset <= last || a[i].after.offset > text.size()) std::abort();
        last = a[i].after.offset;
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
    switch (data[0] % 3) {
        case 0:
            check_cursor(text);
            break;
        case 1:
            check_parser(text, LogFormat::kExecLog, data[0] / 3 + 1u);
            break;
        case 2:
            check_parser(text, LogFormat::kText, data[0] / 3 + 1u);
            break;
    }
    return 0;
}
