// Mounts of a sandbox as stored in its configuration document (spec/state.md section 9.1).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <variant>

namespace msb::state {

enum class DiskFormat : std::uint8_t { kQcow2, kRaw, kVmdk };
std::string_view to_string(DiskFormat format);  // "Qcow2", "Raw", "Vmdk": documents
std::string_view disk_format_token(
    DiskFormat format);  // "qcow2", "raw", "vmdk": launch JSON, command line, QEMU
std::optional<DiskFormat> parse_disk_format_token(std::string_view token);

enum class StatVirtualization : std::uint8_t { kStrict, kRelaxed, kOff };
enum class HostPermissions : std::uint8_t { kPrivate, kMirror };
std::string_view to_string(StatVirtualization mode);  // "strict" ...
std::string_view to_string(HostPermissions mode);     // "private", "mirror"

struct MountOptions {
    bool readonly = false;
    bool noexec = false;
    bool nosuid = false;
    bool nodev = false;
    std::optional<std::uint32_t> override_uid;  // both or neither
    std::optional<std::uint32_t> override_gid;

    bool operator==(const MountOptions&) const = default;
};

struct BindMount {
    std::string host;
    std::string guest;
    MountOptions options;
    StatVirtualization stat_virtualization = StatVirtualization::kStrict;
    HostPermissions host_permissions = HostPermissions::kPrivate;
    bool follow_root_symlinks = false;
    std::optional<std::uint32_t> quota_mib;  // the spawn applies 4096 when unset

    bool operator==(const BindMount&) const = default;
};

struct NamedMount {
    std::string name;
    std::string guest;
    MountOptions options;
    StatVirtualization stat_virtualization = StatVirtualization::kStrict;
    HostPermissions host_permissions = HostPermissions::kPrivate;
    bool follow_root_symlinks = false;

    bool operator==(const NamedMount&) const = default;
};

struct TmpfsMount {
    std::string guest;
    std::optional<std::uint32_t> size_mib;
    MountOptions options;

    bool operator==(const TmpfsMount&) const = default;
};

struct DiskImageMount {
    std::string host;
    std::string guest;
    DiskFormat format = DiskFormat::kRaw;
    std::optional<std::string> fstype;
    MountOptions options;

    bool operator==(const DiskImageMount&) const = default;
};

using Mount = std::variant<BindMount, NamedMount, TmpfsMount, DiskImageMount>;

const std::string& guest_path(const Mount& mount);
std::string& guest_path(Mount& mount);
const MountOptions& mount_options(const Mount& mount);

}  // namespace msb::state
