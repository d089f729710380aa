// Diagnostics of the host programs, in the line form readers of runtime.log parse:
//   2026-11-21T22:47:02.298988Z  INFO target: message key=value
#pragma once

#include <fmt/format.h>

#include <optional>
#include <string>
#include <string_view>

namespace msb {

enum class LogLevel { kError, kWarn, kInfo, kDebug, kTrace };

std::optional<LogLevel> parse_log_level(std::string_view name);  // "error" ... "trace"
std::string_view to_string(LogLevel level);

// nullopt (the state at start): nothing is written. Thread-safe; lines go to standard error in one
// write each.
void set_log_level(std::optional<LogLevel> level);
bool log_enabled(LogLevel level);
void log_line(LogLevel level, std::string_view target, std::string_view message);

template <class... Args>
void log(LogLevel level, std::string_view target, fmt::format_string<Args...> format,
         Args&&... args) {
    if (log_enabled(level))
        log_line(level, target, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace msb
