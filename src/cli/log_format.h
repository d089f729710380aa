// How `msb logs` prints entries (spec/cli.md section 6). Entries are hostile: the guest wrote them.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace msb::cli {

struct LogLine {
    std::int64_t time_ns = 0;  // since the epoch
    std::string_view source;   // stdout, stderr, output, system
    std::optional<std::uint64_t> session;
    std::string_view data;
};

struct LogStyle {
    bool json = false;
    bool timestamps = false;
    bool show_id = false;
    bool color_sessions = false;  // implies show_id; colours only when not stripping
    bool strip_ansi = true;
};

// Everything to write for one entry: the body as it is, no newline added; one JSON line in JSON mode.
std::string format_log(const LogLine& line, const LogStyle& style);

// Without CSI, OSC and the other escape sequences; other control characters stay.
std::string strip_ansi(std::string_view text);

// --grep. RE2: linear time whatever the pattern and the text are.
class LogFilter {
  public:
    // Throws msb::Error{kCustom} "invalid --grep regex".
    explicit LogFilter(const std::string& pattern);
    ~LogFilter();
    bool matches(std::string_view text) const;

  private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace msb::cli
