#include "agentd/teardown.h"

#include <linux/reboot.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ranges>

#include "agentd/failure.h"
#include "agentd/files.h"
#include "base/error.h"
#include "base/text.h"
#include "base/time.h"

namespace msb::agentd {

namespace {

constexpr std::int64_t kMs = 1'000'000;
constexpr std::int64_t kBudget = 1000 * kMs;
constexpr std::int64_t kReapBudget = 300 * kMs;
constexpr timespec kReapInterval{0, 5 * kMs};

// File systems that are kernel interfaces or live in memory.
constexpr std::array<std::string_view, 24> kDataless = {
    "autofs",     "binfmt_misc", "bpf",      "cgroup",   "cgroup2", "configfs",
    "debugfs",    "devpts",      "devtmpfs", "efivarfs", "fusectl", "hugetlbfs",
    "mqueue",     "nsfs",        "proc",     "pstore",   "ramfs",   "rootfs",
    "securityfs", "selinuxfs",   "sysfs",    "tmpfs",    "tracefs", ""};

bool is_octal(char c) {
    return c >= '0' && c <= '7';
}

// "\040" and friends, as the kernel escapes blanks and backslashes (fs/proc_namespace.c).
std::string unescape(std::string_view text) {
    std::string result;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] == '\\' && i + 3 < text.size() && is_octal(text[i + 1]) &&
            is_octal(text[i + 2]) && is_octal(text[i + 3])) {
            int value = (text[i + 1] - '0') * 64 + (text[i + 2] - '0') * 8 + (text[i + 3] - '0');
            result += static_cast<char>(value);
            i += 3;
        } else {
            result += text[i];
        }
    }
    return result;
}

void kill_everything() {
    ::kill(-1, SIGKILL);
    std::int64_t deadline = monotonic_ns() + kReapBudget;
    while (monotonic_ns() < deadline) {
        pid_t pid = ::waitpid(-1, nullptr, WNOHANG);
        if (pid < 0 && errno == ECHILD) return;
        if (pid == 0) ::nanosleep(&kReapInterval, nullptr);
    }
}

void release(const MountEntry& mount) {
    if (::umount2(mount.path.c_str(), UMOUNT_NOFOLLOW) == 0) return;
    if (::mount(nullptr, mount.path.c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr) == 0) return;
    log_line("teardown: " + mount.path + " left mounted read-write: " + os_error_text(errno));
}

}  // namespace

std::vector<MountEntry> parse_mounts(std::string_view text) {
    std::vector<MountEntry> mounts;
    for (std::string_view line : split(text, '\n')) {
        std::vector<std::string_view> fields = split(line, ' ');
        if (fields.size() < 3) continue;
        mounts.push_back({unescape(fields[0]), unescape(fields[1]), std::string(fields[2])});
    }
    return mounts;
}

bool holds_data(std::string_view type) {
    return std::ranges::find(kDataless, type) == kDataless.end();
}

bool must_be_clean(const MountEntry& mount) {
    return mount.path == "/" || mount.source.starts_with("/dev/");
}

void tear_down(int upper_fs, bool kill_processes) {
    std::int64_t deadline = monotonic_ns() + kBudget;
    ::sync();
    if (kill_processes) kill_everything();
    std::vector<MountEntry> mounts = parse_mounts(read_kernel_file("/proc/self/mounts"));
    for (const MountEntry& mount : std::views::reverse(mounts)) {
        if (!holds_data(mount.type)) continue;
        if (must_be_clean(mount) || monotonic_ns() < deadline) release(mount);
    }
    // After the overlay above it: a plain unmount is impossible while the overlay is the root, and
    // only going read-only makes ext4 clear its needs-recovery flag.
    if (upper_fs >= 0) {
        std::string path = "/proc/self/fd/" + std::to_string(upper_fs);
        if (::mount(nullptr, path.c_str(), nullptr, MS_REMOUNT | MS_RDONLY, nullptr) != 0)
            log_line("teardown: the root's upper file system left read-write: " +
                     os_error_text(errno));
    }
    ::sync();
}

void reset_machine() {
    ::reboot(RB_AUTOBOOT);
    ::_exit(0);
}

}  // namespace msb::agentd
