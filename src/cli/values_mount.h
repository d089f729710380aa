// The grammars that describe file systems: mounts, tmpfs, the root disk, files copied into the image
// (spec/cli.md section 3). Errors as in values.h; functions that look at the host say so.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace msb::cli {

enum class MountKind : std::uint8_t { kBind, kNamed, kDisk, kTmpfs };

struct MountValue {
    MountKind kind = MountKind::kBind;
    std::string source;  // host path or volume name; "" for tmpfs
    std::string guest;   // as written; the SDK normalises and checks it
    bool readonly = false;
    bool noexec = false;
    bool nosuid = false;
    bool nodev = false;
    bool follow_root_symlinks = false;
    std::optional<std::string> stat_virt;   // strict, relaxed, off
    std::optional<std::string> host_perms;  // private, mirror
    std::optional<std::uint32_t> uid;       // uid and gid come together
    std::optional<std::uint32_t> gid;
    std::optional<std::uint32_t> size_mib;   // tmpfs, named disk
    std::optional<std::uint32_t> quota_mib;  // bind, named directory
    std::optional<std::string> format;       // disk: raw, qcow2, vmdk
    std::optional<std::string> fstype;
    bool named_disk = false;  // kind=disk of --mount-named
};

MountValue parse_volume(std::string_view text);      // -v
MountValue parse_mount_dir(std::string_view text);   // looks at the source
MountValue parse_mount_file(std::string_view text);  // looks at the source
MountValue parse_mount_disk(std::string_view text);
MountValue parse_mount_named(std::string_view text);
MountValue parse_tmpfs(std::string_view text);

struct RootDiskValue {
    enum class Kind : std::uint8_t { kManaged, kTmpfs, kFlat, kImage };
    Kind kind = Kind::kManaged;
    std::optional<std::uint32_t> size_mib;
    std::string path;                   // kImage; "~/" is expanded
    std::optional<std::string> format;  // raw, qcow2
    std::optional<std::string> fstype;
    std::optional<std::string> clone;  // auto, copy, reflink
};
RootDiskValue parse_root_disk(std::string_view text);

struct CopyValue {
    std::string source;
    std::string destination;
    bool directory = false;
};
enum class CopyKind : std::uint8_t { kAny, kFile, kDirectory };
CopyValue parse_copy(std::string_view text, CopyKind kind);  // looks at the source

// --mkdir and --rm.
std::string parse_guest_path(std::string_view text, std::string_view flag);

}  // namespace msb::cli
