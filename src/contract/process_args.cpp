#include "contract/process_args.h"

#include "base/json.h"
#include "base/log.h"
#include "base/text.h"
#include "contract/word_reader.h"

namespace msb::contract {
namespace {

constexpr std::string_view kHelp =
    "Run one sandbox (started by the SDK, not by hand)\n\n"
    "Usage: msb sandbox [OPTIONS] --name <NAME> --sandbox-id <ID> --config-fd <FD>\n";

std::string log_level(const std::string& word) {
    if (!parse_log_level(word))
        throw UsageError(
            "invalid log level: " + word + " (expected: error, warn, info, debug, trace)", 2);
    return word;
}

// Flags shared by the modern and the older form. False when the word is none of them.
bool read_common_flag(WordReader& words, ProcessArgs& args, bool& level_given) {
    const std::string_view flag = words.flag();
    if (flag == "--name")
        args.name = words.value();
    else if (flag == "--sandbox-id")
        args.sandbox_id = words.integer<std::int32_t>();
    else if (flag == "--log-level")
        args.log_level = log_level(words.value()), level_given = true;
    else if (flag == "--forward")
        args.forward = true;
    else if (flag == "--vcpus")
        args.vcpus = words.integer<std::uint8_t>();
    else if (flag == "--memory-mib")
        args.memory_mib = words.integer<std::uint32_t>();
    else if (flag == "--max-vcpus")
        args.max_vcpus = words.integer<std::uint8_t>();
    else if (flag == "--max-memory-mib")
        args.max_memory_mib = words.integer<std::uint32_t>();
    else if (flag == "--parent-watch-fd")
        args.parent_watch_fd = words.integer<std::int32_t>();
    else if (flag == "--startup-fd")
        args.startup_fd = words.integer<std::int32_t>();
    else if (flag == "--lifecycle-lock-fd")
        args.lifecycle_lock_fd = words.integer<std::int32_t>();
    else if (flag == "--config-fd")
        args.config_fd = words.integer<std::int32_t>();
    else if (flag == "--config-file")
        args.config_file = words.value();
    else
        return false;
    return true;
}

bool is_level_flag(std::string_view word) {
    return word.starts_with("--") && parse_log_level(word.substr(2)).has_value();
}

}  // namespace

ProcessArgs parse_process_args(const std::vector<std::string>& args) {
    ProcessArgs out;
    std::optional<std::string> flag_level;
    bool level_given = false, named = false, id_given = false;
    LegacyArgs legacy;
    WordReader words(args);
    while (words.next()) {
        const std::string_view flag = words.flag();
        if (flag == "--name") named = true;
        if (flag == "--sandbox-id") id_given = true;
        if (is_level_flag(flag)) {
            const std::string level(flag.substr(2));
            if (flag_level && *flag_level != level)
                throw UsageError("error: the argument '--" + *flag_level +
                                     "' cannot be used with '--" + level + "'",
                                 2);
            flag_level = level;
        } else if (flag == "--help" || flag == "-h") {
            throw UsageError(std::string(kHelp), 0);
        } else if (flag == "sandbox" && !words.seen_subcommand()) {
            words.set_seen_subcommand();
        } else if (!read_common_flag(words, out, level_given) && !legacy.read(words)) {
            throw UsageError("error: unexpected argument '" + std::string(flag) + "' found", 2);
        }
    }
    if (!named)
        throw UsageError(
            "error: the following required arguments were not provided:\n  --name <NAME>", 2);
    if (!id_given)
        throw UsageError(
            "error: the following required arguments were not provided:\n  --sandbox-id <ID>", 2);
    if (!level_given) out.log_level = flag_level;
    out.legacy_config = legacy.finish();
    return out;
}

std::vector<std::string> build_process_args(const ProcessArgs& args) {
    std::vector<std::string> out = {"sandbox"};
    const auto add = [&](std::string_view flag, const std::string& value) {
        out.emplace_back(flag);
        out.push_back(value);
    };
    if (args.log_level) out.push_back("--" + *args.log_level);
    if (args.forward) out.emplace_back("--forward");
    add("--name", args.name);
    add("--sandbox-id", std::to_string(args.sandbox_id));
    if (args.parent_watch_fd) add("--parent-watch-fd", std::to_string(*args.parent_watch_fd));
    if (args.startup_fd) add("--startup-fd", std::to_string(*args.startup_fd));
    add("--vcpus", std::to_string(args.vcpus));
    add("--memory-mib", std::to_string(args.memory_mib));
    if (args.effective_max_vcpus() > args.vcpus)
        add("--max-vcpus", std::to_string(args.effective_max_vcpus()));
    if (args.effective_max_memory_mib() > args.memory_mib)
        add("--max-memory-mib", std::to_string(args.effective_max_memory_mib()));
    if (args.config_fd) add("--config-fd", std::to_string(*args.config_fd));
    if (args.config_file) add("--config-file", args.config_file->string());
    if (args.lifecycle_lock_fd) add("--lifecycle-lock-fd", std::to_string(*args.lifecycle_lock_fd));
    return out;
}

std::string startup_line(pid_t pid) {
    return "{\"pid\":" + std::to_string(pid) + "}\n";
}

std::optional<pid_t> parse_startup_line(std::string_view line) {
    try {
        const json::Value value = json::parse(line);
        const auto pid = json::Reader(value, "StartupInfo").integer<std::int32_t>("pid");
        return pid > 0 ? std::optional<pid_t>(pid) : std::nullopt;
    } catch (const json::ParseError&) {
        return std::nullopt;
    }
}

}  // namespace msb::contract
