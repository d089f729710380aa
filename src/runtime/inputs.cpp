#include "runtime/inputs.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>

#include "base/error.h"
#include "state/locks.h"

namespace msb::runtime {
namespace {

using contract::UsageError;

[[noreturn]] void refuse(const std::string& text) {
    throw UsageError(text, 2);
}

// The OS part of an error, without the prefix for its kind.
std::string detail_of(const std::exception& error) {
    const auto* ours = dynamic_cast<const Error*>(&error);
    return ours ? ours->detail() : error.what();
}

std::string read_document(const contract::ProcessArgs& args) {
    if (args.config_fd) {
        const int fd = *args.config_fd;
        if (fd < 0) refuse("invalid --config-fd: must be non-negative, got " + std::to_string(fd));
        const std::string where = "failed to read --config-fd " + std::to_string(fd) + ": ";
        if (::fcntl(fd, F_GETFD) < 0) refuse(where + os_error_text(errno));
        UniqueFd owned(fd);
        try {
            return read_to_end(fd, contract::kMaxLaunchConfigBytes);
        } catch (const std::exception& error) {
            refuse(where + detail_of(error));
        }
    }
    if (!args.config_file) refuse("missing --config-fd or --config-file for `msb sandbox`");
    try {
        return read_file(*args.config_file, contract::kMaxLaunchConfigBytes);
    } catch (const std::exception& error) {
        refuse("failed to read --config-file " + args.config_file->string() + ": " +
               detail_of(error));
    }
}

contract::LaunchConfig read_config(const contract::ProcessArgs& args) {
    if (args.legacy_config) return *args.legacy_config;
    const std::string document = read_document(args);
    try {
        return contract::parse_launch_config(document);
    } catch (const contract::LaunchConfigError& error) {
        refuse(std::string("invalid launch config: ") + error.what());
    }
}

enum class Kind { kPipe, kAny };

UniqueFd adopt(std::optional<std::int32_t> number, const std::string& flag, int expected,
               Kind kind) {
    if (!number) return {};
    if (*number < 0)
        refuse("invalid --" + flag + ": fd must be non-negative, got " + std::to_string(*number));
    if (*number != expected)
        refuse("invalid --" + flag + ": expected " + std::to_string(expected) + ", got " +
               std::to_string(*number));
    const std::string where = "invalid --" + flag + " " + std::to_string(*number) + ": ";
    if (::fcntl(*number, F_GETFD) < 0) refuse(where + os_error_text(errno));
    struct stat info{};
    if (kind == Kind::kPipe && (::fstat(*number, &info) != 0 || !S_ISFIFO(info.st_mode)))
        refuse(where + "fd is not a pipe");
    set_cloexec(*number, true);
    return UniqueFd(*number);
}

FileLock own_lifecycle(const Inputs& inputs) {
    if (UniqueFd fd = adopt(inputs.args.lifecycle_lock_fd, "lifecycle-lock-fd",
                            contract::kLifecycleLockFd, Kind::kAny))
        return FileLock::adopt(std::move(fd));
    try {
        const state::StateRoots roots{contract::effective_run_dir(inputs.config),
                                      inputs.config.sandboxes_dir};
        return state::lock_lifecycle_blocking(roots, inputs.args.name);
    } catch (const std::exception& error) {
        refuse(std::string("failed to acquire sandbox lifecycle ownership: ") + error.what());
    }
}

void check_specs(Inputs& inputs) {
    for (const std::string& disk : inputs.config.disks) {
        try {
            inputs.disks.push_back(contract::parse_disk_spec(disk));
        } catch (const Error& error) {
            refuse(error.detail());
        }
    }
    if (const auto& name = inputs.config.rootfs.upper_format) {
        const auto format = contract::parse_disk_format(*name);
        if (!format) refuse("upper disk format: I/O error: unknown disk image format: " + *name);
        inputs.upper_format = *format;
    }
    if (const auto problem = contract::placement_profile_problem(inputs.config)) refuse(*problem);
}

}  // namespace

Inputs read_inputs(const std::vector<std::string>& words) {
    Inputs inputs;
    inputs.args = contract::parse_process_args(words);
    inputs.config = read_config(inputs.args);
    inputs.watchdog = adopt(inputs.args.parent_watch_fd, "parent-watch-fd",
                            contract::kParentWatchFd, Kind::kPipe);
    inputs.startup = adopt(inputs.args.startup_fd, "startup-fd", contract::kStartupFd, Kind::kPipe);
    inputs.lifecycle = own_lifecycle(inputs);
    check_specs(inputs);
    return inputs;
}

}  // namespace msb::runtime
