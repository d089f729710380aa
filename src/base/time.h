// Clocks and the textual forms of time that appear in files, rows and messages. All wall times are
// UTC.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace msb {

std::int64_t wall_clock_ns();  // CLOCK_REALTIME, nanoseconds since the Unix epoch
std::int64_t monotonic_ns();   // CLOCK_MONOTONIC
std::int64_t boottime_ns();    // CLOCK_BOOTTIME

// "2026-11-21T22:51:05.161Z": exec.log, boot-error.json.
std::string rfc3339_millis(std::int64_t unix_ns);
// "2026-11-21T22:47:02.298988Z": runtime.log.
std::string rfc3339_micros(std::int64_t unix_ns);
// "2026-11-21T23:09:21.822049210Z" with 0, 3, 6 or 9 fraction digits: heartbeat.json.
std::string rfc3339_nanos(std::int64_t unix_ns);
// "2026-11-21T23:09:21.822049210+00:00": JSON output of the command line; fraction digits as above.
std::string rfc3339_offset(std::int64_t unix_ns);
// "2026-11-21 23:09:21.822049210" (fraction of 0, 3, 6 or 9 digits): SQLite columns.
std::string database_timestamp(std::int64_t unix_ns);
// Local time zone, "2026-11-21 23:09:21": human tables.
std::string local_time(std::int64_t unix_ns);

// Accepts "YYYY-MM-DD[T ]HH:MM[:SS[.fraction]][Z|+HH:MM|-HH:MM]"; nullopt for anything else (a bare
// date too).
std::optional<std::int64_t> parse_timestamp(std::string_view text);

// The shortest of "5s", "1.5s", "250ms", "10µs", "0ns" (spec/sdk.md section 2.1).
std::string display_duration(std::int64_t ns);

}  // namespace msb
