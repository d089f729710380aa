#include "sdk/log_reader.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/error.h"
#include "contract/exec_log.h"

namespace msb::sdk {

using microsandbox::LogEntry;
using microsandbox::LogSource;
using microsandbox::Timestamp;

namespace {

Timestamp timestamp(std::int64_t unix_ns) {
    return Timestamp(std::chrono::nanoseconds(unix_ns));
}

LogSource source_of(contract::LogSource source) {
    switch (source) {
        case contract::LogSource::kStdout:
            return LogSource::kStdout;
        case contract::LogSource::kStderr:
            return LogSource::kStderr;
        case contract::LogSource::kOutput:
            return LogSource::kOutput;
        case contract::LogSource::kSystem:
            return LogSource::kSystem;
    }
    return LogSource::kSystem;
}

std::int64_t modification_time(const struct stat& info) {
    return std::int64_t{info.st_mtim.tv_sec} * 1'000'000'000 + info.st_mtim.tv_nsec;
}

}  // namespace

LogSourceSet LogSourceSet::of(const std::vector<LogSource>& sources) {
    LogSourceSet set;
    if (sources.empty()) {
        set.wanted[static_cast<std::size_t>(LogSource::kStdout)] = true;
        set.wanted[static_cast<std::size_t>(LogSource::kStderr)] = true;
        set.wanted[static_cast<std::size_t>(LogSource::kOutput)] = true;
    }
    for (LogSource source : sources)
        set.wanted[static_cast<std::size_t>(source)] = true;
    return set;
}

// --- parser -----------------------------------------------------------------------------------------------------

void LogParser::seek(LogPosition position) {
    partial_.clear();
    skipping_ = false;
    skipped_ = 0;
    line_start_ = position;
}

void LogParser::feed(std::string_view bytes, std::int64_t fallback_ns,
                     std::vector<ReadEntry>& out) {
    while (!bytes.empty()) {
        const std::size_t newline = bytes.find('\n');
        const std::string_view piece =
            bytes.substr(0, newline == std::string_view::npos ? newline : newline + 1);
        bytes.remove_prefix(piece.size());
        const bool complete = newline != std::string_view::npos;
        if (!skipping_ && partial_.size() + piece.size() > kMaxLogLineBytes) {
            skipping_ = true;
            skipped_ = partial_.size();
            partial_ = {};
        }
        if (skipping_) {
            skipped_ += piece.size();
            if (!complete) return;
            line_start_.offset += std::exchange(skipped_, 0);
            skipping_ = false;
        } else if (!complete) {
            partial_ += piece;
        } else if (partial_.empty()) {
            line(piece, fallback_ns, out);
        } else {
            partial_ += piece;
            line(std::exchange(partial_, {}), fallback_ns, out);
        }
    }
}

void LogParser::flush(std::int64_t fallback_ns, std::vector<ReadEntry>& out) {
    if (format_ == LogFormat::kText && !partial_.empty())
        line(std::exchange(partial_, {}), fallback_ns, out);
}

void LogParser::line(std::string_view text, std::int64_t fallback_ns, std::vector<ReadEntry>& out) {
    line_start_.offset += text.size();
    LogEntry entry;
    if (format_ == LogFormat::kText) {
        if (!sources_.has(LogSource::kSystem)) return;
        entry.timestamp = timestamp(contract::log_line_timestamp(text).value_or(fallback_ns));
        entry.source = LogSource::kSystem;
        entry.data = text;
    } else {
        if (text.ends_with('\n')) text.remove_suffix(1);
        std::optional<contract::ExecLogEntry> parsed = contract::parse_exec_log_line(text);
        if (!parsed) return;  // torn by a crash, or foreign
        entry.source = source_of(parsed->source);
        if (!sources_.has(entry.source)) return;
        entry.timestamp = timestamp(parsed->unix_ns);
        entry.session_id = parsed->id;
        entry.data = std::move(parsed->data);
    }
    out.push_back({std::move(entry), line_start_});
}

// --- file -------------------------------------------------------------------------------------------------------

LogFile::LogFile(std::filesystem::path live, LogFormat format, LogSourceSet sources)
    : live_(std::move(live)), format_(format), parser_(format, sources) {}

std::vector<LogFile::Generation> LogFile::chain() const {
    std::vector<Generation> result;
    std::vector<std::filesystem::path> paths{live_};
    if (format_ == LogFormat::kExecLog) paths = contract::log_rotation_set(live_);
    for (const std::filesystem::path& path : paths) {
        struct stat info{};
        if (::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode))
            result.push_back({path, info.st_ino});
    }
    return result;
}

// False: renamed away between looking and opening; the caller looks again.
bool LogFile::open(const Generation& generation, std::uint64_t offset) {
    UniqueFd fd(::open(generation.path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
    struct stat info{};
    if (!fd || ::fstat(fd.get(), &info) != 0 || info.st_ino != generation.inode) return false;
    fd_ = std::move(fd);
    inode_ = generation.inode;
    read_offset_ = offset;
    modified_ns_ = modification_time(info);
    parser_.seek({inode_, offset});
    return true;
}

void LogFile::seek(const LogPosition& position) {
    if (position.inode == 0) return;  // from the beginning
    for (int attempt = 0; attempt < 3; ++attempt) {
        for (const Generation& generation : chain()) {
            if (generation.inode == position.inode && open(generation, position.offset)) return;
        }
    }
    throw Error(ErrorCode::kInvalidCursor, live_.filename().string() + " generation " +
                                               std::to_string(position.inode) +
                                               " is not in the current rotation chain");
}

// Opens the file after the current one. False: the current one is the newest.
bool LogFile::advance() {
    const std::vector<Generation> generations = chain();
    if (inode_ == 0) return !generations.empty() && open(generations.front(), 0);
    for (std::size_t i = 0; i < generations.size(); ++i) {
        if (generations[i].inode != inode_) continue;
        return i + 1 < generations.size() && open(generations[i + 1], 0);
    }
    if (generations.empty()) return false;  // being rotated, or removed with its sandbox
    if (format_ == LogFormat::kText) return open(generations.back(), 0);
    throw Error(ErrorCode::kMissedRotation, "log stream missed rotation (dropped from offset " +
                                                std::to_string(read_offset_) + ")");
}

bool LogFile::read_more(std::vector<ReadEntry>& out) {
    if (!fd_ && !advance()) return false;
    buffer_.resize(kLogReadBytes);
    // Whether a newer file exists is decided before the last read of this one: what was written to it before it was
    // renamed is read first, and nothing is written after.
    for (bool checked = false;;) {
        ssize_t n =
            ::pread(fd_.get(), buffer_.data(), buffer_.size(), static_cast<off_t>(read_offset_));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) throw_os_error(errno, live_.string());
        if (n > 0) {
            read_offset_ += static_cast<std::uint64_t>(n);
            struct stat info{};
            if (::fstat(fd_.get(), &info) == 0) modified_ns_ = modification_time(info);
            parser_.feed(std::string_view(buffer_.data(), static_cast<std::size_t>(n)),
                         modified_ns_, out);
            return true;
        }
        struct stat info{};
        if (::fstat(fd_.get(), &info) == 0 &&
            static_cast<std::uint64_t>(info.st_size) < read_offset_) {
            read_offset_ = 0;  // kernel.log is truncated at every boot
            parser_.seek({inode_, 0});
            if (info.st_size > 0) continue;
            return false;
        }
        struct stat live{};
        const bool newest = ::stat(live_.c_str(), &live) != 0 || live.st_ino == inode_;
        if (newest) return false;
        if (!checked) {
            checked = true;
            continue;
        }
        if (!advance()) return false;
        checked = false;
    }
}

void LogFile::flush(std::vector<ReadEntry>& out) {
    parser_.flush(modified_ns_, out);
}

// --- queries ----------------------------------------------------------------------------------------------------

std::vector<LogFile> open_log_files(const std::filesystem::path& log_dir, LogSourceSet sources) {
    std::vector<LogFile> files;
    files.emplace_back(log_dir / contract::kExecLogFile, LogFormat::kExecLog, sources);
    if (sources.has(LogSource::kSystem)) {
        files.emplace_back(log_dir / contract::kRuntimeLogFile, LogFormat::kText, sources);
        files.emplace_back(log_dir / contract::kKernelLogFile, LogFormat::kText, sources);
    }
    return files;
}

std::vector<LogEntry> read_logs(const std::filesystem::path& log_dir,
                                const microsandbox::LogQuery& query) {
    struct Merged {
        ReadEntry read;
        std::size_t file;
    };
    std::vector<LogFile> files = open_log_files(log_dir, LogSourceSet::of(query.sources));
    std::vector<Merged> merged;
    for (std::size_t i = 0; i < files.size(); ++i) {
        std::vector<ReadEntry> entries;
        while (files[i].read_more(entries)) {
        }
        files[i].flush(entries);
        for (ReadEntry& entry : entries)
            merged.push_back({std::move(entry), i});
    }
    std::ranges::stable_sort(merged, {}, [](const Merged& m) { return m.read.entry.timestamp; });

    auto in_range = [&](const Merged& one) {
        const Timestamp time = one.read.entry.timestamp;
        return (!query.since || time >= *query.since) && (!query.until || time < *query.until);
    };
    std::size_t skip = 0;
    if (query.tail) {
        const auto matching = static_cast<std::size_t>(std::ranges::count_if(merged, in_range));
        skip = matching - std::min(matching, *query.tail);
    }
    // A cursor says how far every file was taken when the entry had been delivered.
    std::vector<LogPosition> taken(files.size());
    std::vector<LogEntry> result;
    for (Merged& one : merged) {
        taken[one.file] = one.read.after;
        if (!in_range(one)) continue;
        if (skip > 0) {
            --skip;
            continue;
        }
        one.read.entry.cursor = encode_log_cursor(taken);
        result.push_back(std::move(one.read.entry));
    }
    return result;
}

}  // namespace msb::sdk
