#include "contract/boot_error.h"

#include <fcntl.h>
#include <unistd.h>
#include <algorithm>

#include <cerrno>
#include <cstdio>

#include "base/error.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/text.h"
#include "base/time.h"

namespace msb::contract {
namespace {

using json::Value;

constexpr std::size_t kMaxRecordBytes = 1u << 20;

Value record(const BootError& error) {
    return {{"t", error.time},
            {"stage", error.stage},
            {"errno", error.errno_value ? Value(*error.errno_value) : Value(nullptr)},
            {"message", error.message}};
}

}  // namespace

std::string_view boot_error_stage(std::string_view message) {
    std::string text(message);
    std::ranges::transform(text, text.begin(), [](char c) {
        return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    });
    const auto starts = [&](std::string_view word) { return text.starts_with(word); };
    const auto contains = [&](std::string_view word) {
        return text.find(word) != std::string::npos;
    };
    if (starts("build vm") || contains("vm enter") || contains("tokio runtime")) return "build_vm";
    if (starts("mount ") || starts("runtime mount") || contains("virtiofs")) return "mount";
    if (starts("rootfs") || contains("trampoline rootfs") || contains("disk format") ||
        contains("image not found"))
        return "image";
    if (contains("network") || contains("bind ") || contains("address already in use") ||
        contains("smoltcp"))
        return "network";
    if (starts("database") || starts("serialize startup") || starts("insert run") ||
        starts("mark run failed") || contains("config parse") || contains("invalid config"))
        return "config";
    return "other";
}

std::optional<int> boot_error_errno(std::string_view message) {
    constexpr std::string_view kOpen = "(os error ";
    const std::size_t start = message.rfind(kOpen);
    if (start == std::string_view::npos) return std::nullopt;
    const std::string_view rest = message.substr(start + kOpen.size());
    const std::size_t end = rest.find(')');
    if (end == std::string_view::npos) return std::nullopt;
    return parse_integer<int>(rest.substr(0, end));
}

BootError make_boot_error(std::string_view message, std::optional<int> errno_value) {
    return {.time = rfc3339_millis(wall_clock_ns()),
            .stage = std::string(boot_error_stage(message)),
            .errno_value = errno_value ? errno_value : boot_error_errno(message),
            .message = std::string(message)};
}

std::string boot_error_json(const BootError& error) {
    return json::dump_pretty(record(error));
}
std::string boot_error_json_compact(const BootError& error) {
    return json::dump(record(error));
}

std::optional<BootError> parse_boot_error(std::string_view text) {
    try {
        const Value value = json::parse(text);
        json::Reader reader(value, "BootError");
        return BootError{.time = reader.string("t"),
                         .stage = reader.string("stage"),
                         .errno_value = reader.optional_integer<std::int32_t>("errno"),
                         .message = reader.string("message")};
    } catch (const json::ParseError&) {
        return std::nullopt;
    }
}

void write_boot_error(const std::filesystem::path& log_dir, const BootError& error) {
    const std::filesystem::path final_path = log_dir / kBootErrorFile;
    const std::filesystem::path temporary = final_path.string() + ".tmp";
    UniqueFd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (!fd) throw_os_error(errno);
    if (const int failed = write_all(fd.get(), boot_error_json(error)); failed != 0) {
        ::unlink(temporary.c_str());
        throw_os_error(failed);
    }
    if (::rename(temporary.c_str(), final_path.c_str()) != 0) throw_os_error(errno);
}

std::optional<BootError> read_boot_error(const std::filesystem::path& log_dir) {
    try {
        return parse_boot_error(read_file(log_dir / kBootErrorFile, kMaxRecordBytes));
    } catch (const Error&) {
        return std::nullopt;
    }
}

void remove_boot_error(const std::filesystem::path& log_dir) noexcept {
    std::error_code ignored;
    std::filesystem::remove(log_dir / kBootErrorFile, ignored);
}

std::optional<std::string> boot_error_hint(const BootError& error) {
    const int number = error.errno_value.value_or(0);
    if (error.stage == "mount" && number == ENOENT)
        return "the host path for one of the mounts does not exist";
    if (error.stage == "mount" && number == EACCES)
        return "the host path is not readable by msb (check permissions)";
    if (error.stage == "image" && number == ENOENT)
        return "rootfs not found — try `msb pull <image>` first";
    // 48 is EADDRINUSE on macOS, whose records may be read here.
    if (error.stage == "network" && (number == 48 || number == EADDRINUSE))
        return "a port is already bound — try a different host port or stop the other process";
    return std::nullopt;
}

}  // namespace msb::contract
