#include "agentd/user_mounts.h"

#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>

#include "agentd/devices.h"
#include "agentd/failure.h"
#include "agentd/files.h"
#include "agentd/mounts.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/text.h"

namespace msb::agentd {

namespace {

constexpr const char* kStagingRoot = "/.msb/file-mounts";
constexpr std::uint64_t kMiB = 1024 * 1024;
constexpr unsigned kStickyWorldWritable = 01777;
constexpr unsigned kDefaultMode = 0755;

protocol::MountFlags& flags_of(UserMount& mount) {
    return std::visit([](auto& m) -> protocol::MountFlags& { return m.flags; }, mount);
}

struct Planned {
    std::string path;  // normalised
    std::size_t depth;
    UserMount mount;
};

template <class List>
void collect(std::vector<Planned>& planned, const List& list) {
    for (const auto& mount : list) {
        UserMount entry = mount;
        std::string path = normalized_mount_path(mount_path(entry));
        auto depth = static_cast<std::size_t>(std::ranges::count(path, '/'));
        planned.push_back({std::move(path), depth, std::move(entry)});
    }
}

void check_conflicts(const std::vector<Planned>& sorted) {
    for (std::size_t i = 1; i < sorted.size(); ++i) {
        if (sorted[i].path == sorted[i - 1].path)
            throw init_error("multiple volumes cannot mount the same guest path: " +
                             sorted[i].path);
    }
    for (const Planned& file : sorted) {
        if (!std::holds_alternative<protocol::FileMount>(file.mount)) continue;
        for (const Planned& other : sorted) {
            if (other.path.starts_with(file.path + "/"))
                throw init_error("file mount cannot contain another mount: " + file.path +
                                 " is an ancestor of " + other.path);
        }
    }
}

void require_mount_point(const std::string& path) {
    if (int err = make_directories(path))
        throw init_error("failed to create mount point " + path + ": " + os_error_text(err));
}

void perform(const protocol::DirMount& mount) {
    require_mount_point(mount.guest_path);
    if (int err =
            mount_at(mount.tag.c_str(), mount.guest_path, "virtiofs", mount_flags(mount.flags)))
        throw init_error("failed to mount virtiofs tag '" + mount.tag + "' at " + mount.guest_path +
                         ": " + syscall_error_text(err));
}

void create_file_target(const std::string& path) {
    require_mount_point(parent_path(path));
    UniqueFd target(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0644));
    // The target may be there already and not writable for us (a read-only parent mount).
    if (!target && !exists(path))
        throw init_error("failed to create mount point " + path + ": " + os_error_text(errno));
}

void perform(const protocol::FileMount& mount) {
    std::string staging = std::string(kStagingRoot) + "/" + mount.tag;
    unsigned long flags = mount_flags(mount.flags);
    require_mount_point(staging);
    if (int err = mount_at(mount.tag.c_str(), staging, "virtiofs", flags))
        throw init_error("failed to mount virtiofs tag '" + mount.tag + "' at " + staging + ": " +
                         syscall_error_text(err));
    create_file_target(mount.guest_path);
    std::string source = staging + "/" + mount.filename;
    int err = mount_at(source.c_str(), mount.guest_path, nullptr, MS_BIND);
    // The flags of a bind mount take effect only in a second step.
    if (err == 0) err = mount_at(nullptr, mount.guest_path, nullptr, MS_BIND | MS_REMOUNT | flags);
    if (err != 0)
        throw init_error("failed to bind mount " + source + " to " + mount.guest_path + ": " +
                         syscall_error_text(err));
    ::umount2(staging.c_str(), MNT_DETACH);
    ::rmdir(staging.c_str());
}

void perform(const protocol::DiskMount& mount) {
    std::string device = find_disk(mount.id);
    require_mount_point(mount.guest_path);
    unsigned long flags = mount_flags(mount.flags);
    if (!mount.fstype) {
        if (mount_probed(device, mount.guest_path, flags) != 0)
            throw init_error("disk mount: failed to mount " + device + " at " + mount.guest_path +
                             ": no supported filesystem found");
    } else if (int err = mount_disk(device, mount.guest_path, *mount.fstype, flags)) {
        throw init_error("disk mount: failed to mount " + device + " at " + mount.guest_path +
                         " as " + *mount.fstype + ": " + syscall_error_text(err));
    }
}

void perform(const protocol::TmpfsMount& mount) {
    require_mount_point(mount.path);
    if (int err = mount_at("tmpfs", mount.path, "tmpfs", mount_flags(mount.flags),
                           tmpfs_data(mount).c_str()))
        throw init_error("failed to mount tmpfs at " + mount.path + ": " + syscall_error_text(err));
}

}  // namespace

const std::string& mount_path(const UserMount& mount) {
    if (const auto* tmpfs = std::get_if<protocol::TmpfsMount>(&mount)) return tmpfs->path;
    if (const auto* disk = std::get_if<protocol::DiskMount>(&mount)) return disk->guest_path;
    if (const auto* file = std::get_if<protocol::FileMount>(&mount)) return file->guest_path;
    return std::get<protocol::DirMount>(mount).guest_path;
}

std::string normalized_mount_path(const std::string& path) {
    if (path.empty() || path.front() != '/') throw init_error("invalid guest mount path: " + path);
    std::string normal;
    for (std::string_view component : split(path, '/')) {
        if (component == "..") throw init_error("guest mount path must not contain '..': " + path);
        if (component.empty() || component == ".") continue;
        normal += '/';
        normal += component;
    }
    if (normal.empty()) throw init_error("cannot mount a volume at guest root /");
    return normal;
}

std::vector<UserMount> plan_user_mounts(const protocol::Bootstrap& bootstrap) {
    std::vector<Planned> planned;
    collect(planned, bootstrap.dir_mounts);
    collect(planned, bootstrap.file_mounts);
    collect(planned, bootstrap.disk_mounts);
    collect(planned, bootstrap.tmpfs_mounts);
    std::ranges::stable_sort(planned, [](const Planned& a, const Planned& b) {
        return a.depth != b.depth ? a.depth < b.depth : a.path < b.path;
    });
    check_conflicts(planned);
    std::vector<UserMount> plan;
    for (Planned& entry : planned) {
        if (bootstrap.security_profile == protocol::SecurityProfile::kRestricted) {
            flags_of(entry.mount).nosuid = true;
            flags_of(entry.mount).nodev = true;
        }
        plan.push_back(std::move(entry.mount));
    }
    return plan;
}

std::string tmpfs_data(const protocol::TmpfsMount& mount) {
    std::string path = normalized_mount_path(mount.path);
    bool shared = path == "/tmp" || path == "/var/tmp";
    char mode[16];
    std::snprintf(mode, sizeof mode, "mode=%o",
                  mount.mode.value_or(shared ? kStickyWorldWritable : kDefaultMode));
    if (!mount.size_mib) return mode;
    return "size=" + std::to_string(*mount.size_mib * kMiB) + "," + mode;
}

void mount_user_mounts(const std::vector<UserMount>& plan) {
    for (const UserMount& mount : plan)
        std::visit([](const auto& m) { perform(m); }, mount);
    ::rmdir(kStagingRoot);
}

}  // namespace msb::agentd
