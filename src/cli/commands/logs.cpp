// logs (spec/cli.md section 6).
#include <microsandbox/sandbox.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "base/time.h"
#include "cli/commands/commands.h"
#include "cli/log_format.h"
#include "cli/report.h"
#include "cli/style.h"
#include "cli/values.h"

namespace msb::cli {

namespace {

using microsandbox::LogSource;
using microsandbox::Sandbox;
using microsandbox::Timestamp;

Timestamp to_timestamp(std::int64_t ns) {
    return Timestamp(std::chrono::nanoseconds(ns));
}

std::vector<LogSource> parse_sources(const Matches& matches) {
    std::vector<LogSource> sources;
    for (const auto& name : matches.values("source")) {
        if (name == "all")
            return {LogSource::kStdout, LogSource::kStderr, LogSource::kOutput, LogSource::kSystem};
        const auto source = microsandbox::parse_log_source(name);
        if (source && std::find(sources.begin(), sources.end(), *source) == sources.end())
            sources.push_back(*source);
    }
    return sources;
}

LogStyle parse_style(const Matches& matches) {
    LogStyle style;
    style.json = matches.has("json");
    style.timestamps = matches.has("timestamps");
    style.show_id = matches.has("show-id");
    style.color_sessions = matches.has("color-sessions");
    const auto mode = matches.has("no-color") ? "never" : matches.value("color").value_or("auto");
    style.strip_ansi =
        mode == "never" ||
        (mode == "auto" && (::isatty(STDOUT_FILENO) != 1 || std::getenv("NO_COLOR") != nullptr));
    return style;
}

class Printer {
  public:
    Printer(const Matches& matches) : style_(parse_style(matches)) {
        if (const auto pattern = matches.value("grep"))
            filter_ = std::make_unique<LogFilter>(*pattern);
    }
    bool json() const { return style_.json; }

    void print(const microsandbox::LogEntry& entry) {
        if (filter_ && !filter_->matches(entry.data)) return;
        text_ += format_log({.time_ns = entry.timestamp.time_since_epoch().count(),
                             .source = to_string(entry.source),
                             .session = entry.session_id,
                             .data = entry.data},
                            style_);
        if (text_.size() >= kFlush) flush();
    }
    void flush() {
        write_out(text_);
        text_.clear();
    }

  private:
    static constexpr std::size_t kFlush = 1 << 20;
    LogStyle style_;
    std::unique_ptr<LogFilter> filter_;
    std::string text_;
};

void print_boot_record(const std::string& name, bool json) {
    const auto record = Sandbox::boot_error(name);
    if (!record) return;
    if (!json) {
        print_boot_failure(name, *record);
        return write_err("\n");
    }
    nlohmann::ordered_json body;  // key order of the record on disk
    body["t"] = record->time;
    body["stage"] = record->stage;
    body["errno"] = record->errno_value ? nlohmann::ordered_json(*record->errno_value)
                                        : nlohmann::ordered_json();
    body["message"] = record->message;
    nlohmann::json line;
    line["d"] = body.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
    line["s"] = "boot-error";
    line["t"] = record->time;
    write_out(line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

constexpr std::size_t kTailSlack = 1024;

void keep_newest(std::vector<microsandbox::LogEntry>& entries, std::size_t count) {
    std::stable_sort(entries.begin(), entries.end(),
                     [](const auto& a, const auto& b) { return a.timestamp < b.timestamp; });
    if (entries.size() > count)
        entries.erase(entries.begin(), entries.end() - static_cast<std::ptrdiff_t>(count));
}

// Follows for ever; --tail counts from the entries there are at the start.
int follow(const std::string& name, const microsandbox::LogQuery& query, Printer& printer) {
    microsandbox::LogStreamOptions options;
    options.sources = query.sources;
    options.until = query.until;
    options.follow = true;
    if (query.tail) {
        // Where the files end now; entries written meanwhile come through the stream, none twice.
        microsandbox::LogStreamOptions skim = options;
        skim.follow = false;
        skim.since = query.since;
        auto stream = Sandbox::log_stream(name, skim);
        std::vector<microsandbox::LogEntry> entries;
        while (auto entry = stream.recv()) {
            entries.push_back(std::move(*entry));
            // Per-file order is not time order, so keep some more than the tail before cutting.
            if (entries.size() >= 2 * std::max<std::size_t>(*query.tail, kTailSlack))
                keep_newest(entries, std::max(*query.tail, kTailSlack));
        }
        keep_newest(entries, *query.tail);
        for (const auto& entry : entries)
            printer.print(entry);
        printer.flush();
        options.from_cursor = stream.cursor();
    } else {
        options.since = query.since;
    }
    auto stream = Sandbox::log_stream(name, options);
    try {
        while (const auto entry = stream.recv()) {
            printer.print(*entry);
            printer.flush();
        }
    } catch (const microsandbox::Error& error) {
        if (error.code() != microsandbox::ErrorCode::kMissedRotation) throw;
        print_notice(error.what());
    }
    return 0;
}

}  // namespace

int logs_command(const Matches& matches) {
    const std::string name = matches.value("NAME").value();
    microsandbox::LogQuery query;
    const std::int64_t now = wall_clock_ns();
    query.sources = parse_sources(matches);
    if (const auto text = matches.value("since"))
        query.since = to_timestamp(parse_log_time(*text, now));
    if (const auto text = matches.value("until"))
        query.until = to_timestamp(parse_log_time(*text, now));
    if (const auto tail = matches.number("tail")) query.tail = *tail;
    Printer printer(matches);

    // Throws when there are no logs at all, before the boot record is shown.
    if (matches.has("follow")) {
        print_boot_record(name, printer.json());
        return follow(name, query, printer);
    }
    const auto entries = Sandbox::logs(name, query);
    print_boot_record(name, printer.json());
    for (const auto& entry : entries)
        printer.print(entry);
    printer.flush();
    return 0;
}

}  // namespace msb::cli
