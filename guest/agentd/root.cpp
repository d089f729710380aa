#include "agentd/root.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <string>

#include "agentd/devices.h"
#include "agentd/failure.h"
#include "agentd/files.h"
#include "agentd/mounts.h"

namespace msb::agentd {

namespace {

// These names are seen by guests in /proc/mounts: the spec fixes them.
constexpr const char* kNewRoot = "/newroot";
constexpr const char* kLower = "/.msb/rootfs/lower";
constexpr const char* kUpperFs = "/.msb/rootfs/upperfs";
constexpr const char* kOverlayData =
    "lowerdir=/.msb/rootfs/lower,upperdir=/.msb/rootfs/upperfs/upper,"
    "workdir=/.msb/rootfs/upperfs/work";
constexpr std::uint64_t kMiB = 1024 * 1024;

void require_directory(const std::string& path) {
    if (int err = make_directories(path))
        throw init_error("failed to create directory " + path + ": " + syscall_error_text(err));
}

void mount_disk_image(const protocol::DiskImageRoot& root) {
    wait_for_node(root.device);
    if (!root.fstype) {
        if (mount_probed(root.device, kNewRoot, 0) != 0)
            throw init_error("failed to mount " + root.device +
                             " at /newroot: no supported filesystem found");
    } else if (int err = mount_at(root.device.c_str(), kNewRoot, root.fstype->c_str(), 0)) {
        throw init_error("failed to mount " + root.device + " at /newroot as " + *root.fstype +
                         ": " + syscall_error_text(err));
    }
}

void mount_upper(const protocol::DeviceUpper& upper) {
    wait_for_node(upper.device);
    if (int err = mount_at(upper.device.c_str(), kUpperFs, upper.fstype.c_str(), 0))
        throw init_error("mount " + upper.device + " at " + kUpperFs + ": " +
                         syscall_error_text(err));
}

void mount_upper(const protocol::TmpfsUpper& upper) {
    std::string data = "mode=755";
    if (upper.size_mib) data = "size=" + std::to_string(*upper.size_mib * kMiB) + "," + data;
    if (int err = mount_at("tmpfs", kUpperFs, "tmpfs", MS_RELATIME, data.c_str()))
        throw init_error("mount tmpfs upper at " + std::string(kUpperFs) + ": " +
                         syscall_error_text(err));
}

UniqueFd mount_overlay(const protocol::OciErofsRoot& root) {
    require_directory(kLower);
    require_directory(kUpperFs);
    wait_for_node(root.lower);
    if (int err = mount_at(root.lower.c_str(), kLower, "erofs", MS_RDONLY))
        throw init_error("mount " + root.lower + " at " + kLower + ": " + syscall_error_text(err));
    std::visit([](const auto& upper) { mount_upper(upper); }, root.upper);
    UniqueFd upper_fs(::open(kUpperFs, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!upper_fs)
        throw init_error("open " + std::string(kUpperFs) + ": " + syscall_error_text(errno));
    require_directory(std::string(kUpperFs) + "/upper");
    require_directory(std::string(kUpperFs) + "/work");
    if (int err = mount_at("overlay", kNewRoot, "overlay", 0, kOverlayData))
        throw init_error("mount overlay at /newroot: " + syscall_error_text(err));
    return upper_fs;
}

}  // namespace

UniqueFd assemble_root(const protocol::BlockRoot& root) {
    require_directory(kNewRoot);
    if (const auto* image = std::get_if<protocol::DiskImageRoot>(&root)) {
        mount_disk_image(*image);
        return UniqueFd();
    }
    return mount_overlay(std::get<protocol::OciErofsRoot>(root));
}

UniqueFd enter_new_root() {
    UniqueFd runtime_directory(
        ::open_tree(AT_FDCWD, kRuntimeDirectory, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC));
    if (!runtime_directory) throw init_error("open tree /.msb: " + syscall_error_text(errno));
    if (::chdir(kNewRoot) != 0) throw init_error("chdir to /newroot: " + syscall_error_text(errno));
    if (int err = mount_at(".", "/", nullptr, MS_MOVE))
        throw init_error("move /newroot to /: " + syscall_error_text(err));
    if (::chroot(".") != 0) throw init_error("chroot: " + syscall_error_text(errno));
    if (::chdir("/") != 0) throw init_error("chdir to /: " + syscall_error_text(errno));
    return runtime_directory;
}

void furnish_new_root(const UniqueFd& runtime_directory) {
    require_directory(kRuntimeDirectory);
    if (::move_mount(runtime_directory.get(), "", AT_FDCWD, kRuntimeDirectory,
                     MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_SYMLINKS) != 0)
        throw init_error("bind /.msb into the new root: " + syscall_error_text(errno));
    mount_essential();
}

}  // namespace msb::agentd
