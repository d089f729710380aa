#include "base/log.h"

#include <unistd.h>

#include <array>
#include <atomic>

#include "base/fd.h"
#include "base/time.h"

namespace msb {

namespace {

constexpr int kOff = -1;
std::atomic<int> g_level{kOff};

constexpr std::array<std::string_view, 5> kNames{"error", "warn", "info", "debug", "trace"};
constexpr std::array<std::string_view, 5> kLabels{"ERROR", " WARN", " INFO", "DEBUG", "TRACE"};

}  // namespace

std::optional<LogLevel> parse_log_level(std::string_view name) {
    for (std::size_t i = 0; i < kNames.size(); ++i) {
        if (kNames[i] == name) return static_cast<LogLevel>(i);
    }
    return std::nullopt;
}

std::string_view to_string(LogLevel level) {
    return kNames[static_cast<std::size_t>(level)];
}

void set_log_level(std::optional<LogLevel> level) {
    g_level.store(level ? static_cast<int>(*level) : kOff, std::memory_order_relaxed);
}

bool log_enabled(LogLevel level) {
    return static_cast<int>(level) <= g_level.load(std::memory_order_relaxed);
}

void log_line(LogLevel level, std::string_view target, std::string_view message) {
    std::string line = fmt::format("{} {} {}: {}\n", rfc3339_micros(wall_clock_ns()),
                                   kLabels[static_cast<std::size_t>(level)], target, message);
    // A diagnostic that cannot be written has nowhere else to go.
    [[maybe_unused]] int err = write_all(STDERR_FILENO, line);
}

}  // namespace msb
