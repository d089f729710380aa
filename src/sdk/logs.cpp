// The public side of logs: snapshots and streams.
#include <microsandbox/logs.h>
#include <microsandbox/sandbox.h>
#include <poll.h>
#include <sys/inotify.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <deque>

#include "base/error.h"
#include "contract/exec_log.h"
#include "sdk/local_backend.h"
#include "sdk/log_reader.h"
#include "sdk/wait.h"
#include "state/validation.h"

namespace microsandbox {

namespace sdk = msb::sdk;

namespace {

// Changes the notification does not tell of (network file systems) are found this often.
constexpr std::chrono::seconds kFollowPoll{2};

// <sandboxes>/<name>/logs. Throws Error{kSandboxNotFound}.
std::filesystem::path log_directory(const std::string& name) {
    auto backend = sdk::LocalBackend::current("Sandbox::logs");
    try {
        msb::state::validate_sandbox_name(name);
    } catch (const Error&) {
        throw Error(ErrorCode::kSandboxNotFound,
                    name);  // no sandbox can have it, and no path may be made of it
    }
    std::filesystem::path directory = backend->paths.sandbox_logs(name);
    std::error_code error;
    if (!std::filesystem::is_directory(directory, error))
        throw Error(ErrorCode::kSandboxNotFound, name);
    return directory;
}

}  // namespace

std::string_view to_string(LogSource source) noexcept {
    switch (source) {
        case LogSource::kStdout:
            return "stdout";
        case LogSource::kStderr:
            return "stderr";
        case LogSource::kOutput:
            return "output";
        case LogSource::kSystem:
            return "system";
    }
    return "system";
}

std::optional<LogSource> parse_log_source(std::string_view name) noexcept {
    for (LogSource source :
         {LogSource::kStdout, LogSource::kStderr, LogSource::kOutput, LogSource::kSystem}) {
        if (name == to_string(source)) return source;
    }
    return std::nullopt;
}

std::vector<LogEntry> Sandbox::logs(const std::string& name, const LogQuery& query) {
    return sdk::read_logs(log_directory(name), query);
}

// --- stream -----------------------------------------------------------------------------------------------------

struct LogStream::Impl {
    std::vector<sdk::LogFile> files;
    LogStreamOptions options;
    msb::UniqueFd notify;
    std::vector<sdk::LogPosition> positions;  // after the entries delivered
    std::deque<std::pair<std::size_t, sdk::ReadEntry>> ready;
    std::size_t next_file = 0;
    bool ended = false;

    Impl(const std::filesystem::path& directory, const LogStreamOptions& stream_options)
        : files(sdk::open_log_files(directory, sdk::LogSourceSet::of(stream_options.sources))),
          options(stream_options),
          positions(files.size()) {
        if (options.from_cursor) {
            const std::vector<sdk::LogPosition> start =
                sdk::decode_log_cursor(*options.from_cursor);
            for (std::size_t i = 0; i < std::min(start.size(), files.size()); ++i) {
                files[i].seek(start[i]);
                positions[i] = start[i];
            }
        }
        if (!options.follow) return;
        // Before the first read, so that nothing written after it is missed.
        notify.reset(::inotify_init1(IN_CLOEXEC | IN_NONBLOCK));
        if (notify)
            ::inotify_add_watch(notify.get(), directory.c_str(),
                                IN_MODIFY | IN_CREATE | IN_MOVED_TO | IN_ATTRIB | IN_DELETE_SELF);
    }

    // Reads the files in turn, one piece at a time. False: nothing new in any of them.
    bool fill() {
        for (std::size_t tried = 0; tried < files.size(); ++tried) {
            const std::size_t index = next_file;
            std::vector<sdk::ReadEntry> entries;
            const bool more = files[index].read_more(entries);
            if (!more) next_file = (next_file + 1) % files.size();
            for (sdk::ReadEntry& entry : entries)
                ready.emplace_back(index, std::move(entry));
            if (more) return true;
        }
        return false;
    }

    void drain_notifications() {
        std::array<char, 4096> bytes;
        while (notify && ::read(notify.get(), bytes.data(), bytes.size()) > 0) {
        }
    }

    // nullopt: the end, or `timed_out`.
    std::optional<LogEntry> next(const sdk::Deadline& deadline, const sdk::Cancel& cancel,
                                 bool& timed_out) {
        timed_out = false;
        while (!ended) {
            if (!ready.empty()) {
                auto [index, read] = std::move(ready.front());
                ready.pop_front();
                if (options.since && read.entry.timestamp < *options.since) {
                    positions[index] = read.after;
                    continue;
                }
                if (options.until && read.entry.timestamp >= *options.until) break;
                positions[index] = read.after;
                read.entry.cursor = sdk::encode_log_cursor(positions);
                return std::move(read.entry);
            }
            cancel.throw_if_requested();
            drain_notifications();
            if (fill()) continue;
            if (!ready.empty()) continue;
            if (!options.follow) break;
            if (deadline && sdk::Clock::now() >= *deadline) {
                timed_out = true;
                return std::nullopt;
            }
            const auto poll_at = sdk::Clock::now() + kFollowPoll;
            sdk::wait_for(notify.get(), POLLIN, deadline ? std::min(*deadline, poll_at) : poll_at,
                          cancel);
        }
        ended = true;
        return std::nullopt;
    }
};

LogStream Sandbox::log_stream(const std::string& name, const LogStreamOptions& options) {
    if (options.since && options.from_cursor)
        throw Error(ErrorCode::kInvalidConfig, "since and from_cursor are mutually exclusive");
    return LogStream(std::make_unique<LogStream::Impl>(log_directory(name), options));
}

LogStream::LogStream(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
LogStream::LogStream(LogStream&&) noexcept = default;
LogStream& LogStream::operator=(LogStream&&) noexcept = default;
LogStream::~LogStream() = default;

std::optional<LogEntry> LogStream::recv(std::stop_token stop) {
    bool timed_out = false;
    return impl_->next(std::nullopt, sdk::Cancel(std::move(stop)), timed_out);
}

std::optional<LogEntry> LogStream::recv_for(std::chrono::milliseconds limit, bool& timed_out,
                                            std::stop_token stop) {
    return impl_->next(sdk::deadline_in(limit), sdk::Cancel(std::move(stop)), timed_out);
}

std::string LogStream::cursor() const {
    return sdk::encode_log_cursor(impl_->positions);
}

}  // namespace microsandbox
