// The value grammars of the command line (spec/cli.md section 3) that stand alone: sizes, durations, times, environment,
// labels, limits, scripts. Mounts are in values_mount.h, everything about the network in values_net.h.
//
// All functions are pure unless they say they look at the host. All throw msb::Error{kCustom} whose text is the whole
// message; the command prints it after "error: " and exits 1.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace msb::cli {

[[noreturn]] void fail_value(const std::string& text);

// SIZE: "1.5G", "512M", "64" in MiB.
std::uint32_t parse_size_mib(std::string_view text);
// BYTES: "4096", "64k", "1M", "2G".
std::uint64_t parse_bytes(std::string_view text);
// DUR: "30s", "5m", "1h", "90" in seconds; what does not fit saturates.
std::uint64_t parse_seconds(std::string_view text);
// DURMS: the same or "500ms"; `flag` is named in the error ("--flag: ...").
std::chrono::milliseconds parse_milliseconds(std::string_view text, std::string_view flag);
// LOGTIME: RFC 3339, or an age relative to `now_ns`. Nanoseconds since the epoch.
std::int64_t parse_log_time(std::string_view text, std::int64_t now_ns);

struct KeyValue {
    std::string key;
    std::string value;
};
// ENV: "K=V", or "K" copied from the host's environment.
KeyValue parse_env(std::string_view text);
// LABEL: "K=V" or "K".
KeyValue parse_label(std::string_view text);

struct RlimitValue {
    std::string resource;  // lower case
    std::uint64_t soft = 0;
    std::uint64_t hard = 0;
};
RlimitValue parse_rlimit(std::string_view text);

// A resource in any case, in lower case; fails "unknown rlimit resource: X".
std::string rlimit_resource(std::string_view text);

// --shell: not empty, no white space or NUL, not "/".
void check_shell(std::string_view shell);

// A script as it is stored: "#!SHELL" ("#!/usr/bin/env SHELL" for one without a slash) in front, a newline at the end.
std::string script_with_shebang(std::string_view body, std::string_view shell);

// --script, --script-raw and --script-path together: name -> whole body, in name order. Reads the files of
// --script-path. A name may come once.
std::map<std::string, std::string> collect_scripts(const std::vector<std::string>& snippets,
                                                   const std::vector<std::string>& raw,
                                                   const std::vector<std::string>& paths,
                                                   std::string_view shell);

// The path test of positional images, volumes and copy endpoints: ".", "..", or a prefix "/", "./", "../".
bool is_path(std::string_view text);

// --pull and --log-level: the index in `names`, or the error "invalid <what>: X (expected: a, b)".
std::size_t parse_named(std::string_view text, std::string_view what,
                        const std::vector<std::string_view>& names);

// The sandbox name rules of spec/state.md section 8; the error starts "invalid config: ".
void check_sandbox_name(std::string_view name);

// "msb-" and 8 lowercase hex digits, random.
std::string generate_name();

}  // namespace msb::cli
