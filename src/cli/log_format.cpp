#include "cli/log_format.h"

#include <re2/re2.h>

#include <array>
#include <nlohmann/json.hpp>

#include "base/encoding.h"
#include "base/error.h"
#include "base/time.h"
#include "cli/values.h"

namespace msb::cli {

namespace {

constexpr std::size_t kTimestampWidth = 24;  // 2026-04-30T20:32:59.690Z
constexpr std::array kSessionColors = {36, 35, 32, 34, 96, 95, 92, 94};

std::string format_json(const LogLine& line) {
    nlohmann::json entry;  // sorted keys
    const bool text = is_utf8(line.data);
    entry["d"] = text ? std::string(line.data) : base64_encode(line.data);
    entry["e"] = text ? nlohmann::json() : nlohmann::json("b64");
    entry["id"] = line.session ? nlohmann::json(*line.session) : nlohmann::json();
    entry["s"] = std::string(line.source);
    entry["t"] = rfc3339_millis(line.time_ns);
    return entry.dump() + "\n";
}

std::string session_tag(const LogLine& line) {
    if (!line.session) return "[id:sys]";
    std::string number = std::to_string(*line.session);
    if (number.size() < 3) number.insert(0, 3 - number.size(), ' ');
    return "[id:" + number + "]";
}

std::string colored(std::string_view text, const std::string& color) {
    return color.empty() || text.empty() ? std::string(text)
                                         : color + std::string(text) + "\x1b[0m";
}

// The end of an escape sequence that starts at text[at] (an ESC).
std::size_t skip_escape(std::string_view text, std::size_t at) {
    if (at + 1 >= text.size()) return text.size();
    const char kind = text[at + 1];
    std::size_t i = at + 2;
    if (kind == '[') {  // CSI: parameters and intermediates, then one final byte
        while (i < text.size() && text[i] >= 0x20 && text[i] <= 0x3f)
            ++i;
        return i < text.size() ? i + 1 : i;
    }
    if (kind == ']' || kind == 'P' || kind == '^' || kind == '_' ||
        kind == 'X') {  // strings: to BEL or ST
        for (; i < text.size(); ++i) {
            if (text[i] == '\a' && kind == ']') return i + 1;
            if (text[i] == '\x1b') return i + 1 < text.size() && text[i + 1] == '\\' ? i + 2 : i;
        }
        return i;
    }
    i = at + 1;  // other sequences: intermediates, then one final byte
    while (i < text.size() && text[i] >= 0x20 && text[i] <= 0x2f)
        ++i;
    return i < text.size() ? i + 1 : i;
}

}  // namespace

std::string strip_ansi(std::string_view text) {
    std::string plain;
    plain.reserve(text.size());
    for (std::size_t i = 0; i < text.size();) {
        if (text[i] == '\x1b') {
            i = skip_escape(text, i);
        } else {
            plain += text[i++];
        }
    }
    return plain;
}

std::string format_log(const LogLine& line, const LogStyle& style) {
    if (style.json) return format_json(line);
    std::string body = is_utf8(line.data) ? std::string(line.data) : utf8_lossy(line.data);
    if (style.strip_ansi) body = strip_ansi(body);
    const bool ids = style.show_id || style.color_sessions;
    if (!style.timestamps && !ids) return body;

    std::string color;
    if (style.color_sessions && !style.strip_ansi && line.session)
        color =
            "\x1b[" + std::to_string(kSessionColors[*line.session % kSessionColors.size()]) + "m";
    const std::string tag = ids ? colored(session_tag(line), color) + " " : "";

    std::string text;
    std::string_view rest = body;
    for (bool first = true; !rest.empty(); first = false) {
        const auto newline = rest.find('\n');
        const auto content = rest.substr(0, newline);
        if (first || !content.empty()) {
            if (style.timestamps)
                text += (first ? rfc3339_millis(line.time_ns) : std::string(kTimestampWidth, ' ')) +
                        "\t";
            text += tag + colored(content, color);
        }
        if (newline == std::string_view::npos) break;
        text += "\n";
        rest.remove_prefix(newline + 1);
    }
    return text;
}

struct LogFilter::Impl {
    re2::RE2 pattern;
};

LogFilter::LogFilter(const std::string& pattern) {
    re2::RE2::Options options;
    options.set_log_errors(false);
    impl_.reset(new Impl{re2::RE2(pattern, options)});
    if (!impl_->pattern.ok()) fail_value("invalid --grep regex");
}

LogFilter::~LogFilter() = default;

bool LogFilter::matches(std::string_view text) const {
    return re2::RE2::PartialMatch(re2::StringPiece(text.data(), text.size()), impl_->pattern);
}

}  // namespace msb::cli
