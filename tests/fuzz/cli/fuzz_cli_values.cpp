// Every value grammar, the parser and the log formatter. The first byte chooses; the rest is the text. Anything but a
// value or an msb::Error is a finding; so is a parser that loses words, or formatted logs that still hold an escape.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/text.h"
#include "cli/create_options.h"
#include "cli/log_format.h"
#include "cli/parse.h"
#include "cli/style.h"
#include "cli/usage.h"
#include "cli/values.h"
#include "cli/values_mount.h"
#include "cli/values_net.h"

namespace {

using namespace msb::cli;

void require(bool holds) {
    if (!holds) std::abort();
}

void parse_values(std::uint8_t choice, const std::string& text) {
    switch (choice) {
        case 0:
            (void)parse_size_mib(text);
            break;
        case 1:
            (void)parse_bytes(text);
            break;
        case 2:
            (void)parse_seconds(text);
            break;
        case 3:
            (void)parse_milliseconds(text, "--flag");
            break;
        case 4:
            require(parse_log_time(text, 1'800'000'000'000'000'000) <= INT64_MAX);
            break;
        case 5:
            (void)parse_env("K" + text);
            break;
        case 6:
            (void)parse_rlimit(text);
            break;
        case 7:
            (void)parse_volume(text);
            break;
        case 8:
            (void)parse_mount_disk(text);
            break;
        case 9:
            (void)parse_mount_named(text);
            break;
        case 10:
            (void)parse_tmpfs(text);
            break;
        case 11:
            (void)parse_root_disk(text);
            break;
        case 12:
            (void)parse_port(text);
            break;
        case 13:
            (void)parse_vsock(text);
            break;
        case 14:
            (void)parse_bandwidth(text, "--flag");
            break;
        case 15:
            (void)parse_net_profiles({text});
            break;
        case 16:
            (void)parse_net_rules(text);
            break;
        case 17:
            (void)parse_secret(text);
            break;
        case 18:
            (void)parse_proxy(text);
            break;
        case 19:
            (void)parse_pool(text, text.size() % 2 == 0);
            break;
        case 20:
            (void)collect_scripts({text}, {}, {}, "/bin/sh");
            break;
        case 21:
            check_shell(text);
            break;
        case 22:
            check_sandbox_name(text);
            break;
        case 23:
            (void)parse_nameserver(text);
            break;
        default:
            break;
    }
}

void parse_line(const std::string& text) {
    std::vector<std::string> words;
    for (auto word : msb::split(text, '\n'))
        words.emplace_back(word);
    const auto invocation = parse_command_line(root_command(), words);
    require(!invocation.path.empty());
    if (invocation.kind == Invocation::Kind::kError)
        require(invocation.error.starts_with("error: "));
    if (invocation.kind == Invocation::Kind::kHelp) require(!help_page(invocation.path).empty());
    if (invocation.kind == Invocation::Kind::kTree)
        require(!command_tree(root_command(), invocation.tree_words).empty());
    const auto id = invocation.path.back()->id;
    const bool create = id == CommandId::kRun || id == CommandId::kCreate;
    // Files are not the fuzzer's business.
    for (const auto* flag :
         {"script-path", "copy", "copy-file", "copy-dir", "conf", "net-conf", "resource-conf",
          "runtime-conf", "fs-conf", "secret-conf", "script-conf", "mount-dir", "mount-file"})
        if (invocation.matches.has(flag)) return;
    if (invocation.kind == Invocation::Kind::kRun && create)
        (void)parse_create_options(invocation.matches);
}

void format_line(std::uint8_t flags, const std::string& text) {
    LogStyle style;
    style.json = (flags & 1) != 0;
    style.timestamps = (flags & 2) != 0;
    style.show_id = (flags & 4) != 0;
    style.color_sessions = (flags & 8) != 0;
    style.strip_ansi = (flags & 16) != 0;
    const auto out =
        format_log({.time_ns = 0, .source = "stdout", .session = flags, .data = text}, style);
    if (style.strip_ansi || style.json) require(out.find('\x1b') == std::string::npos);
    require(printable(text).find('\x1b') == std::string::npos);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 2) return 0;
    const std::string text(reinterpret_cast<const char*>(data) + 2, size - 2);
    try {
        if (data[0] < 128) {
            parse_values(data[0] % 24, text);
        } else if (data[0] < 192) {
            parse_line(text);
        } else {
            format_line(data[1], text);
        }
    } catch (const msb::Error&) {
        // Refusing is what the grammars are for.
    }
    return 0;
}
