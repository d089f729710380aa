#include "agentd/mounts.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "agentd/failure.h"
#include "agentd/files.h"
#include "base/error.h"
#include "base/text.h"

namespace msb::agentd {

namespace {

struct EssentialMount {
    const char* target;
    const char* source;
    const char* type;
    unsigned long flags;
};

constexpr unsigned long kKernelFlags = MS_NODEV | MS_NOEXEC | MS_NOSUID | MS_RELATIME;
constexpr unsigned long kSharedFlags = MS_NOEXEC | MS_NOSUID | MS_RELATIME;

constexpr EssentialMount kDev{"/dev", "devtmpfs", "devtmpfs", MS_RELATIME};
constexpr EssentialMount kProc{"/proc", "proc", "proc", kKernelFlags};
constexpr EssentialMount kSys{"/sys", "sysfs", "sysfs", kKernelFlags};
constexpr std::array kEssential = {
    kDev,
    kProc,
    kSys,
    EssentialMount{"/sys/fs/cgroup", "cgroup2", "cgroup2", kKernelFlags},
    EssentialMount{"/dev/pts", "devpts", "devpts", kSharedFlags},
    EssentialMount{"/dev/shm", "tmpfs", "tmpfs", kSharedFlags},
};

// The quota upstream's runtime share puts on what the guest writes there.
constexpr const char* kRuntimeTmpfsData = "mode=0755,size=16m,nr_inodes=4096";

void mount_one(const EssentialMount& mount) {
    if (::mkdir(mount.target, 0755) != 0 && errno != EEXIST)
        throw init_error("failed to create directory " + std::string(mount.target) + ": " +
                         syscall_error_text(errno));
    int err = mount_at(mount.source, mount.target, mount.type, mount.flags);
    if (err != 0 && err != EBUSY)
        throw init_error("failed to mount " + std::string(mount.target) + ": " +
                         syscall_error_text(err));
}

// A path below /.msb the host chose; it is checked all the same, because the file is written as root.
bool is_safe_relative(const std::string& path) {
    if (path.empty() || path.front() == '/' || path.find('\0') != std::string::npos) return false;
    for (std::string_view component : split(path, '/')) {
        if (component.empty() || component == "." || component == "..") return false;
    }
    return true;
}

void place_runtime_file(const protocol::RuntimeFile& file) {
    if (!is_safe_relative(file.path))
        throw config_error("bootstrap runtime file path is not a relative path: " + file.path);
    std::string path = std::string(kRuntimeDirectory) + "/" + file.path;
    int err = make_directories(parent_path(path));
    if (err == 0) err = write_file(path, file.content.text(), file.mode & 07777);
    // The mode given to open() is reduced by the umask.
    if (err == 0 && ::chmod(path.c_str(), file.mode & 07777) != 0) err = errno;
    if (err != 0) throw init_error("failed to write " + path + ": " + os_error_text(err));
}

}  // namespace

int mount_at(const char* source, const std::string& target, const char* type, unsigned long flags,
             const char* data) {
    return ::mount(source, target.c_str(), type, flags, data) == 0 ? 0 : errno;
}

void mount_early() {
    mount_one(kDev);
    mount_one(kSys);
}

void mount_essential() {
    for (const EssentialMount& mount : kEssential)
        mount_one(mount);
    if (::symlink("/proc/self/fd", "/dev/fd") != 0 && errno != EEXIST)
        throw init_error("failed to create /dev/fd: " + syscall_error_text(errno));
}

void mount_runtime_directory(const protocol::Bootstrap& bootstrap) {
    if (::mkdir(kRuntimeDirectory, 0755) != 0 && errno != EEXIST)
        throw init_error("failed to create directory /.msb: " + syscall_error_text(errno));
    int err = bootstrap.runtime_share
                  ? mount_at(kRuntimeTag, kRuntimeDirectory, "virtiofs", 0)
                  : mount_at("tmpfs", kRuntimeDirectory, "tmpfs",
                             MS_RELATIME | MS_NOSUID | MS_NODEV, kRuntimeTmpfsData);
    if (err != 0 && err != EBUSY)
        throw init_error("failed to mount /.msb: " + syscall_error_text(err));
    if (bootstrap.runtime_share) return;
    if (::mkdir("/.msb/scripts", 0755) != 0 && errno != EEXIST)
        throw init_error("failed to create directory /.msb/scripts: " + syscall_error_text(errno));
    for (const protocol::RuntimeFile& file : bootstrap.runtime_files)
        place_runtime_file(file);
}

unsigned long mount_flags(const protocol::MountFlags& flags) {
    unsigned long result = MS_RELATIME;
    if (flags.readonly) result |= MS_RDONLY;
    if (flags.noexec) result |= MS_NOEXEC;
    if (flags.nosuid) result |= MS_NOSUID;
    if (flags.nodev) result |= MS_NODEV;
    return result;
}

}  // namespace msb::agentd
