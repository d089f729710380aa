#include "contract/exec_log.h"

#include <bit>
#include <charconv>
#include <cstring>
#include <system_error>

#include "base/encoding.h"
#include "base/json.h"
#include "base/time.h"

namespace msb::contract {
namespace {

constexpr std::string_view kSourceNames[] = {"stdout", "stderr", "output", "system"};

// Longest run at `text` whose bytes are copied as they are: printable ASCII other than '"' and '\', and DEL.
std::size_t plain_run(const char* text, std::size_t size) {
    constexpr std::uint64_t kOnes = 0x0101010101010101, kHigh = 0x8080808080808080;
    const auto zero_bytes = [](std::uint64_t x) { return (x - kOnes) & ~x & kHigh; };
    std::size_t i = 0;
    for (; i + 8 <= size; i += 8) {
        std::uint64_t word;
        std::memcpy(&word, text + i, 8);
        const std::uint64_t below_space = (word - kOnes * 0x20) & ~word & kHigh;
        const std::uint64_t special = (word & kHigh) | below_space |
                                      zero_bytes(word ^ (kOnes * '"')) |
                                      zero_bytes(word ^ (kOnes * '\\'));
        if (special != 0) return i + static_cast<std::size_t>(std::countr_zero(special)) / 8;
    }
    for (; i < size; ++i) {
        const auto c = static_cast<unsigned char>(text[i]);
        if (c < 0x20 || c >= 0x80 || c == '"' || c == '\\') break;
    }
    return i;
}

void append_control(std::string& out, unsigned char c) {
    switch (c) {
        case '"':
            out += "\\\"";
            return;
        case '\\':
            out += "\\\\";
            return;
        case '\b':
            out += "\\b";
            return;
        case '\f':
            out += "\\f";
            return;
        case '\n':
            out += "\\n";
            return;
        case '\r':
            out += "\\r";
            return;
        case '\t':
            out += "\\t";
            return;
        default:
            break;
    }
    constexpr char kHex[] = "0123456789abcdef";
    out += "\\u00";
    out += kHex[c >> 4];
    out += kHex[c & 15];
}

// Length of the run of bytes >= 0x80 at `text`.
std::size_t high_run(const char* text, std::size_t size) {
    std::size_t i = 0;
    while (i < size && static_cast<unsigned char>(text[i]) >= 0x80)
        ++i;
    return i;
}

void append_escaped(std::string& out, std::string_view data) {
    while (!data.empty()) {
        std::size_t run = plain_run(data.data(), data.size());
        out.append(data.data(), run);
        data.remove_prefix(run);
        if (data.empty()) return;
        if (static_cast<unsigned char>(data.front()) < 0x80) {
            append_control(out, static_cast<unsigned char>(data.front()));
            data.remove_prefix(1);
            continue;
        }
        // No maximal invalid subsequence reaches into ASCII, so runs of high bytes can be repaired on their own.
        run = high_run(data.data(), data.size());
        out += utf8_lossy(data.substr(0, run));
        data.remove_prefix(run);
    }
}

}  // namespace

std::string_view to_string(LogSource source) noexcept {
    return kSourceNames[static_cast<std::size_t>(source)];
}

std::optional<LogSource> parse_log_source(std::string_view name) noexcept {
    for (std::size_t i = 0; i < std::size(kSourceNames); ++i)
        if (kSourceNames[i] == name) return static_cast<LogSource>(i);
    return std::nullopt;
}

void append_exec_log_line(std::string& out, std::int64_t unix_ns, LogSource source,
                          std::string_view data, std::optional<std::uint64_t> id) {
    out += "{\"t\":\"";
    out += rfc3339_millis(unix_ns);
    out += "\",\"s\":\"";
    out += to_string(source);
    out += "\",\"d\":\"";
    append_escaped(out, data);
    out += '"';
    if (id) {
        char digits[24];
        const auto end = std::to_chars(digits, digits + sizeof digits, *id).ptr;
        out += ",\"id\":";
        out.append(digits, end);
    }
    out += "}\n";
}

std::optional<ExecLogEntry> parse_exec_log_line(std::string_view line) {
    try {
        const json::Value value = json::parse(line);
        json::Reader reader(value, "LogEntry");
        ExecLogEntry entry;
        const auto time = parse_timestamp(reader.string("t"));
        const auto source = parse_log_source(reader.string("s"));
        if (!time || !source) return std::nullopt;
        entry.unix_ns = *time;
        entry.source = *source;
        entry.data = reader.string("d");
        entry.id = reader.optional_integer<std::uint64_t>("id");
        if (reader.optional_string("e") == "b64") {
            if (auto decoded = base64_decode(entry.data)) entry.data = std::move(*decoded);
        }
        return entry;
    } catch (const json::ParseError&) {
        return std::nullopt;
    }
}

std::vector<std::filesystem::path> log_rotation_set(const std::filesystem::path& live) {
    std::vector<std::filesystem::path> files;
    std::error_code ignored;
    for (int n = kLogRotatedFiles; n >= 1; --n) {
        std::filesystem::path rotated = live.string() + "." + std::to_string(n);
        if (std::filesystem::exists(rotated, ignored)) files.push_back(std::move(rotated));
    }
    if (std::filesystem::exists(live, ignored)) files.push_back(live);
    return files;
}

std::optional<std::int64_t> log_line_timestamp(std::string_view line) {
    const std::size_t space = line.find(' ');
    if (space == std::string_view::npos) return std::nullopt;
    const std::string_view stamp = line.substr(0, space);
    if (stamp.find('T') == std::string_view::npos) return std::nullopt;
    return parse_timestamp(stamp);
}

}  // namespace msb::contract
