// Reading one log file of a sandbox through its rotations (spec/sdk.md section 8, spec/sandbox-process.md section 12).
// File contents come from the guest: nothing in them is trusted.
#pragma once

#include <microsandbox/logs.h>

#include <cstdint>
#include <deque>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "sdk/log_cursor.h"

namespace msb::sdk {

inline constexpr std::size_t kLogReadBytes = 1u << 20;
// A longer line is skipped: one frame of output, escaped six-fold, stays below.
inline constexpr std::size_t kMaxLogLineBytes = 32u << 20;

enum class LogFormat {
    kExecLog,  // JSON Lines, rotated .1 to .4
    kText,     // system lines as they are; only the live file
};

// Which sources a query asks for.
struct LogSourceSet {
    bool wanted[4] = {};
    bool has(microsandbox::LogSource source) const {
        return wanted[static_cast<std::size_t>(source)];
    }
    // Empty: stdout, stderr, output.
    static LogSourceSet of(const std::vector<microsandbox::LogSource>& sources);
};

// An entry and where its line ended.
struct ReadEntry {
    microsandbox::LogEntry entry;  // cursor empty
    LogPosition after;
};

// Splits bytes into lines and lines into entries. Pure.
class LogParser {
  public:
    LogParser(LogFormat format, LogSourceSet sources) : format_(format), sources_(sources) {}

    // `fallback_ns` is the stamp of text lines that carry none. Finished entries are appended to `out`.
    void feed(std::string_view bytes, std::int64_t fallback_ns, std::vector<ReadEntry>& out);
    // The unfinished last line of a text file as an entry.
    void flush(std::int64_t fallback_ns, std::vector<ReadEntry>& out);
    // Starts at `position`; forgets an unfinished line.
    void seek(LogPosition position);
    // After the last complete line.
    LogPosition position() const { return line_start_; }

  private:
    void line(std::string_view text, std::int64_t fallback_ns, std::vector<ReadEntry>& out);

    LogFormat format_;
    LogSourceSet sources_;
    std::string partial_;
    bool skipping_ = false;  // inside a line that is too long
    std::uint64_t skipped_ = 0;
    LogPosition line_start_;
};

// One log and its rotated predecessors.
class LogFile {
  public:
    LogFile(std::filesystem::path live, LogFormat format, LogSourceSet sources);

    // Continues at a position of an earlier reader. Throws Error{kInvalidCursor}
    // "<file> generation <g> is not in the current rotation chain".
    void seek(const LogPosition& position);
    // Reads at most kLogReadBytes more. False: at the end of everything there is now.
    // Throws Error{kMissedRotation} when rotation overtook the reader.
    bool read_more(std::vector<ReadEntry>& out);
    // The unfinished last line, for readers that will not come back.
    void flush(std::vector<ReadEntry>& out);
    LogPosition position() const { return parser_.position(); }

  private:
    struct Generation {
        std::filesystem::path path;
        std::uint64_t inode;
    };
    std::vector<Generation> chain() const;  // oldest first
    bool open(const Generation& generation, std::uint64_t offset);
    bool advance();

    std::filesystem::path live_;
    LogFormat format_;
    LogParser parser_;
    UniqueFd fd_;
    std::uint64_t inode_ = 0;
    std::uint64_t read_offset_ = 0;
    std::int64_t modified_ns_ = 0;
    std::string buffer_;
};

// The files of a query in reader order: exec.log, then runtime.log and kernel.log when system lines are wanted.
std::vector<LogFile> open_log_files(const std::filesystem::path& log_dir, LogSourceSet sources);

// Everything there is: merged by time, since, until, tail. `log_dir` exists.
std::vector<microsandbox::LogEntry> read_logs(const std::filesystem::path& log_dir,
                                              const microsandbox::LogQuery& query);

}  // namespace msb::sdk
