// The string forms in which mounts and disks travel in the launch document (spec/sandbox-process.md section 5).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace msb::contract {

enum class StatVirtualization { kStrict, kRelaxed, kOff };
enum class HostPermissions { kPrivate, kMirror };

// "tag:host_path[:opts]"
struct MountSpec {
    std::string tag;
    std::filesystem::path host_path;
    bool read_only = false;
    bool noexec = false;
    bool nosuid = false;
    bool nodev = false;
    bool follow_root_symlinks = false;
    StatVirtualization stat_virt = StatVirtualization::kStrict;
    HostPermissions host_perms = HostPermissions::kPrivate;
    std::optional<std::uint64_t> quota_bytes;
    std::optional<std::uint32_t> uid;  // with gid, or neither
    std::optional<std::uint32_t> gid;
    bool operator==(const MountSpec&) const = default;
};

// Throws Error{kCustom} whose text is MSG of section 5.1; the caller wraps it (`--mount "SPEC": MSG`,
// `file mount "SPEC": MSG`).
MountSpec parse_mount_spec(std::string_view spec);
std::string format_mount_spec(const MountSpec& mount);

enum class DiskImageFormat { kRaw, kQcow2, kVmdk };
std::optional<DiskImageFormat> parse_disk_format(std::string_view name);
std::string_view to_string(DiskImageFormat format) noexcept;

// "id:host_path:format[:ro]"
struct DiskSpec {
    std::string id;  // virtio-blk serial; 20 bytes significant
    std::filesystem::path host_path;
    DiskImageFormat format = DiskImageFormat::kRaw;
    bool read_only = false;
    bool operator==(const DiskSpec&) const = default;
};

// Throws Error{kCustom} with the whole text of section 5.3.
DiskSpec parse_disk_spec(std::string_view spec);
std::string format_disk_spec(const DiskSpec& disk);

// The tag (or disk id) a launcher derives from a guest path: "/var/log" -> "var_log_9a6a409e".
std::string mount_tag(std::string_view guest_path);

// Longest tag the virtio-fs device can carry.
inline constexpr std::size_t kMaxMountTagBytes = 36;

}  // namespace msb::contract
