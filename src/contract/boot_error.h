// boot-error.json: why a sandbox did not come up, written by the sandbox process and shown by launchers
// (spec/sandbox-process.md section 11).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace msb::contract {

inline constexpr std::string_view kBootErrorFile = "boot-error.json";

struct BootError {
    std::string time;   // RFC 3339 UTC, milliseconds, "Z"
    std::string stage;  // build_vm, mount, image, network, config, other
    std::optional<int> errno_value;
    std::string message;
    bool operator==(const BootError&) const = default;
};

std::string_view boot_error_stage(std::string_view message);
// N of the last "(os error N)" in the message.
std::optional<int> boot_error_errno(std::string_view message);

// Stage and errno derived from the message; `errno_value` beats the text.
BootError make_boot_error(std::string_view message, std::optional<int> errno_value = std::nullopt);

// Pretty JSON, 2 spaces, no final newline: the file's bytes. The compact form is what `msb logs --json` shows.
std::string boot_error_json(const BootError& error);
std::string boot_error_json_compact(const BootError& error);
// nullopt when the text is not such a record.
std::optional<BootError> parse_boot_error(std::string_view json);

// Writes through boot-error.json.tmp and rename. Throws Error{kIo}.
void write_boot_error(const std::filesystem::path& log_dir, const BootError& error);
// nullopt when missing, unreadable, larger than 1 MiB or malformed.
std::optional<BootError> read_boot_error(const std::filesystem::path& log_dir);
void remove_boot_error(const std::filesystem::path& log_dir) noexcept;

// The line a user is shown below the error, when there is a useful one.
std::optional<std::string> boot_error_hint(const BootError& error);

}  // namespace msb::contract
