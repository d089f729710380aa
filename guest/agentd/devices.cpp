#include "agentd/devices.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>

#include "agentd/failure.h"
#include "agentd/files.h"
#include "agentd/mounts.h"
#include "base/fd.h"
#include "base/text.h"

namespace msb::agentd {

namespace {

// Spec section 5.3: 20 tries, 10 ms apart.
constexpr int kLookupTries = 20;
constexpr timespec kLookupInterval{0, 10'000'000};

// Every signature but that of btrfs lies within the first page.
constexpr std::size_t kNearProbe = 4096;

struct CloseDirectory {
    void operator()(DIR* directory) const { ::closedir(directory); }
};

struct Magic {
    std::size_t offset;
    std::string_view bytes;
    std::string_view type;
};

using namespace std::string_view_literals;

// Where each file system keeps its signature (its own on-disk format definition).
constexpr Magic kMagics[] = {
    {0x438, "\x53\xef"sv, "ext4"},           // ext2/3/4 superblock at 1024, s_magic at 56
    {0x400, "\xe2\xe1\xf5\xe0"sv, "erofs"},  // superblock at 1024
    {0, "XFSB"sv, "xfs"},
    {0, "hsqs"sv, "squashfs"},
    {0x10040, "_BHRfS_M"sv, "btrfs"},  // superblock at 64 KiB, magic at 64
    {0x52, "FAT32   "sv, "vfat"},
    {0x36, "FAT16   "sv, "vfat"},
    {0x36, "FAT12   "sv, "vfat"},
};

// The first /sys/block/vd* whose serial is `id`, or "".
std::string disk_by_serial(const std::string& id) {
    std::string by_id = "/dev/disk/by-id/virtio-" + id;
    if (exists(by_id)) return by_id;
    std::unique_ptr<DIR, CloseDirectory> directory(::opendir("/sys/block"));
    if (!directory) return {};
    std::vector<std::string> names;
    while (const dirent* entry = ::readdir(directory.get())) {
        std::string name(entry->d_name);
        if (name.starts_with("vd") &&
            trim(read_kernel_file("/sys/block/" + name + "/serial")) == id)
            names.push_back("/dev/" + name);
    }
    return names.empty() ? std::string() : *std::ranges::min_element(names);
}

// What the superblock says, reading the far part (btrfs) only when the near one says nothing.
std::string probe_device(const std::string& device) {
    UniqueFd fd(::open(device.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    if (!fd) return {};
    std::vector<std::byte> head(kNearProbe);
    std::ptrdiff_t n = read_exactly(fd.get(), head);
    if (n < static_cast<std::ptrdiff_t>(kNearProbe)) return {};
    std::string_view type = detect_filesystem(head);
    if (!type.empty()) return std::string(type);
    head.resize(kSuperblockProbe);
    n = read_exactly(fd.get(), std::span(head).subspan(kNearProbe));
    if (n < static_cast<std::ptrdiff_t>(kSuperblockProbe - kNearProbe)) return {};
    return std::string(detect_filesystem(head));
}

}  // namespace

bool wait_for_node(const std::string& path) {
    for (int attempt = 0; attempt < kLookupTries; ++attempt) {
        if (exists(path)) return true;
        ::nanosleep(&kLookupInterval, nullptr);
    }
    return exists(path);
}

std::string find_disk(const std::string& id) {
    for (int attempt = 0; attempt < kLookupTries; ++attempt) {
        if (attempt > 0) ::nanosleep(&kLookupInterval, nullptr);
        std::string device = disk_by_serial(id);
        if (!device.empty()) return device;
    }
    throw init_error("disk mount: no block device found for id '" + id +
                     "' (checked /dev/disk/by-id/virtio-" + id + " and /sys/block/*/serial)");
}

std::string_view detect_filesystem(std::span<const std::byte> head) {
    for (const Magic& magic : kMagics) {
        if (head.size() >= magic.offset + magic.bytes.size() &&
            std::memcmp(head.data() + magic.offset, magic.bytes.data(), magic.bytes.size()) == 0)
            return magic.type;
    }
    return {};
}

std::vector<std::string> block_filesystems(std::string_view proc_filesystems) {
    std::vector<std::string> types;
    for (std::string_view line : split(proc_filesystems, '\n')) {
        if (line.starts_with("nodev")) continue;
        std::string_view type = trim(line);
        if (!type.empty()) types.emplace_back(type);
    }
    return types;
}

int mount_disk(const std::string& device, const std::string& target, const std::string& type,
               unsigned long flags) {
    // A read-only ext4 must not replay its journal: the device may be read-only or shared.
    const char* data = (flags & MS_RDONLY) != 0 && type == "ext4" ? "noload" : nullptr;
    return mount_at(device.c_str(), target, type.c_str(), flags, data);
}

int mount_probed(const std::string& device, const std::string& target, unsigned long flags) {
    std::string detected = probe_device(device);
    if (!detected.empty() && mount_disk(device, target, detected, flags) == 0) return 0;
    for (const std::string& type : block_filesystems(read_kernel_file("/proc/filesystems"))) {
        if (type != detected && mount_disk(device, target, type, flags) == 0) return 0;
    }
    return ENODEV;
}

}  // namespace msb::agentd
