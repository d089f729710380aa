// exec.log: what the processes of a sandbox printed, as JSON Lines (spec/sandbox-process.md section 12).
// The sandbox process writes it, `msb logs` and the SDK read it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace msb::contract {

inline constexpr std::string_view kExecLogFile = "exec.log";
inline constexpr std::string_view kRuntimeLogFile = "runtime.log";
inline constexpr std::string_view kKernelLogFile = "kernel.log";

// A live file grows to at most this size, then becomes ".1" (exactly equal still fits); ".1" to ".4" are kept.
inline constexpr std::uint64_t kLogRotateBytes = 10'485'760;
inline constexpr int kLogRotatedFiles = 4;

inline constexpr std::string_view kStartedMarker = "--- sandbox started ---\n";
inline constexpr std::string_view kStoppedMarker = "--- sandbox stopped ---\n";

enum class LogSource { kStdout, kStderr, kOutput, kSystem };
std::string_view to_string(
    LogSource source) noexcept;  // "stdout", "stderr", "output" (pty), "system"
std::optional<LogSource> parse_log_source(std::string_view name) noexcept;

struct ExecLogEntry {
    std::int64_t unix_ns = 0;
    LogSource source = LogSource::kStdout;
    std::string data;                 // decoded: raw bytes when the line carried "e":"b64"
    std::optional<std::uint64_t> id;  // log session number, absent for system lines
    bool operator==(const ExecLogEntry&) const = default;
};

// Appends one line with its newline. `data` may be any bytes: invalid UTF-8 becomes U+FFFD per maximal invalid
// subsequence. Written for the relay's hot path: plain ASCII is copied in blocks.
void append_exec_log_line(std::string& out, std::int64_t unix_ns, LogSource source,
                          std::string_view data, std::optional<std::uint64_t> id);

// One line without its newline. nullopt for a line that is not an entry (torn by a crash, foreign).
std::optional<ExecLogEntry> parse_exec_log_line(std::string_view line);

// The existing files of one log, oldest first: base.4 ... base.1, base.
std::vector<std::filesystem::path> log_rotation_set(const std::filesystem::path& live);

// "2026-11-21T22:47:02.298988Z  INFO ...": the leading stamp of a runtime.log line, if it has one.
std::optional<std::int64_t> log_line_timestamp(std::string_view line);

}  // namespace msb::contract
