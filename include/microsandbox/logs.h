// What a sandbox wrote: output of its commands, and the diagnostics of its process and kernel.
//
// Logs are read from files: they are there while the sandbox runs and after it stopped.
#pragma once

#include <microsandbox/error.h>
#include <microsandbox/export.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

namespace microsandbox {

using Timestamp = std::chrono::sys_time<std::chrono::nanoseconds>;

enum class LogSource : std::uint8_t {
    kStdout,
    kStderr,
    kOutput,  // pseudo terminals, where both are one
    kSystem,  // start and stop marks, runtime.log, kernel.log
};
MICROSANDBOX_API std::string_view to_string(LogSource source) noexcept;
MICROSANDBOX_API std::optional<LogSource> parse_log_source(std::string_view name) noexcept;

struct LogEntry {
    Timestamp timestamp;
    LogSource source = LogSource::kStdout;
    std::optional<std::uint64_t>
        session_id;    // counts commands of one run from 1; unset for system lines
    std::string data;  // bytes as logged
    // Position after this entry in every file of the query: LogStreamOptions::from_cursor continues there.
    std::string cursor;
};

// Order of application: sources, since (inclusive), until (exclusive), tail.
struct LogQuery {
    std::optional<std::size_t> tail;
    std::optional<Timestamp> since;
    std::optional<Timestamp> until;
    std::vector<LogSource> sources;  // empty = stdout, stderr, output
};

struct LogStreamOptions {
    std::vector<LogSource> sources;  // empty = stdout, stderr, output
    std::optional<Timestamp> since;  // with from_cursor too: Error{kInvalidConfig}
    std::optional<std::string> from_cursor;
    std::optional<Timestamp> until;  // the stream ends at the first entry not before it
    bool follow = false;             // false: end at the end of the files; true: wait for more
};

// Entries as they are written; in order within each file. Move-only, one thread at a time.
class MICROSANDBOX_API LogStream {
  public:
    struct Impl;  // incomplete outside the library

    LogStream(LogStream&&) noexcept;
    LogStream& operator=(LogStream&&) noexcept;
    ~LogStream();

    // The next entry; nullopt at the end. Throws Error{kMissedRotation} when rotation overtook a slow reader,
    // Error{kCancelled} when `stop` is triggered.
    std::optional<LogEntry> recv(std::stop_token stop = {});
    // nullopt with timed_out when nothing came within `limit`.
    std::optional<LogEntry> recv_for(std::chrono::milliseconds limit, bool& timed_out,
                                     std::stop_token stop = {});
    // Where a later stream with the same sources continues.
    std::string cursor() const;

  private:
    friend class Sandbox;
    friend class SandboxHandle;
    explicit LogStream(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace microsandbox
