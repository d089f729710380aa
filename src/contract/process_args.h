// The command line, the inherited descriptors and the first line of output of `msb sandbox`
// (spec/sandbox-process.md sections 2, 3, 6 and 19).
#pragma once

#include <sys/types.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "contract/launch_config.h"

namespace msb::contract {

// Descriptor numbers of the launch contract.
inline constexpr int kConfigFd = 96;         // launch document
inline constexpr int kParentWatchFd = 97;    // read end of the attached-parent watchdog pipe
inline constexpr int kStartupFd = 98;        // write end of the startup pipe
inline constexpr int kLifecycleLockFd = 99;  // description holding the lifecycle flock

// The byte on the watchdog pipe that says "the creator leaves, keep running".
inline constexpr char kWatchdogDetach = 0x01;

// How long a launcher waits for the startup line, and for the relay after it (section 6).
inline constexpr int kStartupLineTimeoutSecs = 30;
inline constexpr int kAgentReadyTimeoutSecs = 180;

struct ProcessArgs {
    std::string name;
    std::int32_t sandbox_id = 0;
    std::optional<std::string> log_level;  // "error" ... "trace"; --log-level beats the flags
    bool forward = false;
    std::uint8_t vcpus = 1;
    std::uint32_t memory_mib = 512;
    std::optional<std::uint8_t> max_vcpus;
    std::optional<std::uint32_t> max_memory_mib;
    std::optional<std::int32_t> config_fd;
    std::optional<std::filesystem::path> config_file;
    std::optional<std::int32_t> parent_watch_fd;
    std::optional<std::int32_t> startup_fd;
    std::optional<std::int32_t> lifecycle_lock_fd;
    // Set by the older argv form only, which carries the whole launch document in flags.
    std::optional<LaunchConfig> legacy_config;

    unsigned effective_max_vcpus() const noexcept {
        return std::max<unsigned>(max_vcpus.value_or(0), vcpus);
    }
    std::uint64_t effective_max_memory_mib() const noexcept {
        return std::max<std::uint64_t>(max_memory_mib.value_or(0), memory_mib);
    }
};

// what() is the whole text for standard error; the process then exits with status 2 (or 0 for --help).
class UsageError : public std::runtime_error {
  public:
    UsageError(const std::string& text, int status) : std::runtime_error(text), status_(status) {}
    int status() const noexcept { return status_; }

  private:
    int status_;
};

// `args` are the words after the program name: global flags, "sandbox", flags. Throws UsageError.
ProcessArgs parse_process_args(const std::vector<std::string>& args);

// The words after the program name, in the order of section 2. `legacy_config` is not written.
std::vector<std::string> build_process_args(const ProcessArgs& args);

// {"pid":123}\n
std::string startup_line(pid_t pid);
// The pid of a startup line (other keys are tolerated, the newline is optional); nullopt for anything else.
std::optional<pid_t> parse_startup_line(std::string_view line);

}  // namespace msb::contract
