#include "cli/values_mount.h"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "base/error.h"
#include "base/text.h"
#include "cli/values.h"

namespace msb::cli {

namespace {

// Which options a flag takes beside ro, rw, noexec, nosuid and nodev.
struct OptionSet {
    bool directory = false;  // follow-root-symlinks, stat-virt, host-perms, uid, gid, quota
    bool disk = false;       // format, fstype
    bool kind = false;       // kind
    bool size = false;       // size
};

// What the options said beyond MountValue's members.
struct OptionNotes {
    std::vector<std::string> seen;
    bool owner_policy = false;  // stat-virt, host-perms, uid or gid was given
    std::optional<std::string> kind;
};

struct Endpoints {
    std::string_view source;
    std::string_view guest;
    std::string_view options;
};

// "SOURCE:/GUEST[:OPTIONS]", split at the first ':' before a '/'.
Endpoints split_mount(std::string_view text, std::string_view flag) {
    const auto at = text.find(":/");
    if (at == std::string_view::npos)
        fail_value(std::string(flag) + " must be in format source:/guest[:options]");
    Endpoints parts{text.substr(0, at), text.substr(at + 1), {}};
    if (parts.source.empty()) fail_value(std::string(flag) + " source must not be empty");
    if (const auto colon = parts.guest.find(':'); colon != std::string_view::npos) {
        parts.options = parts.guest.substr(colon + 1);
        parts.guest = parts.guest.substr(0, colon);
    }
    if (const auto comma = parts.guest.find(','); comma != std::string_view::npos)
        fail_value(std::string(flag) +
                   " options must use source:guest:options syntax, for example " +
                   std::string(parts.source) + ":" + std::string(parts.guest.substr(0, comma)) +
                   ":" + std::string(parts.guest.substr(comma + 1)));
    return parts;
}

void once(OptionNotes& notes, std::string_view key) {
    const std::string shown =
        key == "ro" || key == "rw" ? "`ro`/`rw`" : "`" + std::string(key) + "`";
    if (std::find(notes.seen.begin(), notes.seen.end(), shown) != notes.seen.end())
        fail_value("mount option " + shown + " specified more than once");
    notes.seen.push_back(shown);
}

void apply_flag(MountValue& mount, OptionNotes& notes, std::string_view flag,
                const OptionSet& allowed) {
    if (flag == "suid" || flag == "exec" || flag == "dev")
        fail_value("unsupported mount option " + quoted(flag));
    if (flag == "follow-root-symlinks" && !allowed.directory)
        fail_value("mount option `follow-root-symlinks` is not valid here");
    bool* target = flag == "ro" || flag == "rw"     ? &mount.readonly
                   : flag == "noexec"               ? &mount.noexec
                   : flag == "nosuid"               ? &mount.nosuid
                   : flag == "nodev"                ? &mount.nodev
                   : flag == "follow-root-symlinks" ? &mount.follow_root_symlinks
                                                    : nullptr;
    if (!target) fail_value("mount option " + quoted(flag) + " must be a flag or key=value");
    once(notes, flag);
    *target = flag != "rw";
}

std::uint32_t parse_id(std::string_view key, std::string_view value) {
    if (const auto id = parse_integer<std::uint32_t>(value)) return *id;
    fail_value("invalid " + std::string(key) + " " + quoted(value) +
               " (expected an unsigned integer)");
}

std::string one_of(std::string_view value, const std::string& error,
                   std::initializer_list<std::string_view> names) {
    for (auto name : names)
        if (name == value) return std::string(value);
    fail_value(error);
}

void check_fstype(std::string_view fstype) {
    if (fstype.empty()) fail_value("mount option `fstype` must not be empty");
    if (fstype.find_first_of(",;:=") != std::string_view::npos)
        fail_value("mount option `fstype` must not contain ',', ';', ':', or '='");
}

void apply_pair(MountValue& mount, OptionNotes& notes, std::string_view key, std::string_view value,
                const OptionSet& allowed) {
    const bool directory_key =
        key == "stat-virt" || key == "host-perms" || key == "uid" || key == "gid" || key == "quota";
    const bool disk_key = key == "format" || key == "fstype";
    if (!directory_key && !disk_key && key != "kind" && key != "size")
        fail_value("unknown mount option " + quoted(key));
    const bool valid = (directory_key && allowed.directory) || (disk_key && allowed.disk) ||
                       (key == "kind" && allowed.kind) || (key == "size" && allowed.size);
    if (!valid) fail_value("mount option `" + std::string(key) + "` is not valid here");
    once(notes, key);
    const std::string shown = quoted(value);
    if (key == "stat-virt")
        mount.stat_virt =
            one_of(value, "invalid stat-virt " + shown + " (expected strict|relaxed|off)",
                   {"strict", "relaxed", "off"});
    if (key == "host-perms")
        mount.host_perms =
            one_of(value, "invalid host-perms " + shown + " (expected private|mirror)",
                   {"private", "mirror"});
    if (key == "uid") mount.uid = parse_id(key, value);
    if (key == "gid") mount.gid = parse_id(key, value);
    if (key == "quota") mount.quota_mib = parse_size_mib(value);
    if (key == "size") mount.size_mib = parse_size_mib(value);
    if (key == "format")
        mount.format = one_of(value,
                              "invalid disk image format " + shown +
                                  ": unknown disk image format: " + std::string(value),
                              {"raw", "qcow2", "vmdk"});
    if (key == "fstype") {
        check_fstype(value);
        mount.fstype = value;
    }
    if (key == "kind")
        notes.kind = one_of(value, "invalid named volume kind " + shown + " (expected dir|disk)",
                            {"dir", "directory", "disk"});
    if (directory_key && key != "quota") notes.owner_policy = true;
}

OptionNotes apply_options(MountValue& mount, std::string_view options, const OptionSet& allowed) {
    OptionNotes notes;
    for (auto option : split(options, ',')) {
        option = trim(option);
        if (option.empty()) continue;
        const auto equals = option.find('=');
        if (equals == std::string_view::npos) {
            apply_flag(mount, notes, option, allowed);
        } else {
            apply_pair(mount, notes, option.substr(0, equals), option.substr(equals + 1), allowed);
        }
    }
    if (mount.uid.has_value() != mount.gid.has_value())
        fail_value("mount options `uid` and `gid` must be specified together");
    return notes;
}

constexpr OptionSet kDirectoryOptions{.directory = true};

MountValue parse_checked_bind(std::string_view text, std::string_view flag, mode_t wanted,
                              std::string_view noun) {
    const auto parts = split_mount(text, flag);
    MountValue mount{.kind = MountKind::kBind,
                     .source = std::string(parts.source),
                     .guest = std::string(parts.guest)};
    apply_options(mount, parts.options, kDirectoryOptions);
    struct stat info{};
    if (::stat(mount.source.c_str(), &info) != 0)
        fail_value(std::string(flag) + " source " + quoted(mount.source) + ": " +
                   os_error_text(errno));
    if ((info.st_mode & S_IFMT) != wanted)
        fail_value(std::string(flag) + " source is not a " + std::string(noun) + ": " +
                   mount.source);
    return mount;
}

void parse_flat_options(RootDiskValue& disk, std::string_view text) {
    bool first = true;
    for (auto part : split(text, ',')) {
        const auto equals = part.find('=');
        if (part.empty()) fail_value("--root-disk: empty flat root option");
        const auto key = part.substr(0, equals);
        if (equals == std::string_view::npos) {
            if (!first)
                fail_value("--root-disk: unknown flat root option '" + std::string(part) + "'");
            disk.size_mib = parse_size_mib(part);
        } else if (key == "fstype") {
            if (disk.fstype) fail_value("--root-disk: duplicate fstype option");
            disk.fstype = part.substr(equals + 1);
        } else if (key == "clone") {
            if (disk.clone) fail_value("--root-disk: duplicate clone option");
            const auto value = std::string(part.substr(equals + 1));
            disk.clone = one_of(value,
                                "--root-disk: unsupported flat clone strategy '" + value +
                                    "' (expected auto, copy, or reflink)",
                                {"auto", "copy", "reflink"});
        } else {
            fail_value("--root-disk: unknown flat root option '" + std::string(part) + "'");
        }
        first = false;
    }
}

std::string expand_home(std::string_view path) {
    const char* home = std::getenv("HOME");
    if (home && (path == "~" || path.starts_with("~/"))) return home + std::string(path.substr(1));
    return std::string(path);
}

RootDiskValue parse_image_root(std::string_view text) {
    RootDiskValue disk{.kind = RootDiskValue::Kind::kImage};
    const auto colon = text.find(':');
    disk.path = expand_home(text.substr(0, colon));
    if (colon == std::string_view::npos) return disk;
    for (auto option : split(text.substr(colon + 1), ',')) {
        option = trim(option);
        if (option.empty()) continue;
        if (option.starts_with("format=")) {
            const std::string format(option.substr(7));
            disk.format = one_of(
                format, "--root-disk: unsupported format '" + format + "' (expected raw or qcow2)",
                {"raw", "qcow2"});
        } else if (option.starts_with("fstype=")) {
            disk.fstype = option.substr(7);
        } else {
            fail_value("--root-disk: unknown option '" + std::string(option) +
                       "' (expected format=raw|qcow2 or fstype=...)");
        }
    }
    return disk;
}

}  // namespace

MountValue parse_volume(std::string_view text) {
    const auto parts = split_mount(text, "volume");
    MountValue mount{.kind = is_path(parts.source) ? MountKind::kBind : MountKind::kNamed,
                     .source = std::string(parts.source),
                     .guest = std::string(parts.guest)};
    apply_options(mount, parts.options, kDirectoryOptions);
    return mount;
}

MountValue parse_mount_dir(std::string_view text) {
    return parse_checked_bind(text, "mount-dir", S_IFDIR, "directory");
}

MountValue parse_mount_file(std::string_view text) {
    return parse_checked_bind(text, "mount-file", S_IFREG, "regular file");
}

MountValue parse_mount_disk(std::string_view text) {
    const auto parts = split_mount(text, "mount-disk");
    MountValue mount{.kind = MountKind::kDisk,
                     .source = std::string(parts.source),
                     .guest = std::string(parts.guest)};
    apply_options(mount, parts.options, {.disk = true});
    return mount;
}

MountValue parse_mount_named(std::string_view text) {
    const auto parts = split_mount(text, "mount-named");
    if (is_path(parts.source))
        fail_value("mount-named source must be a volume name, not a host path: " +
                   std::string(parts.source));
    MountValue mount{.kind = MountKind::kNamed,
                     .source = std::string(parts.source),
                     .guest = std::string(parts.guest)};
    const auto notes =
        apply_options(mount, parts.options, {.directory = true, .kind = true, .size = true});
    mount.named_disk = notes.kind == "disk";
    if (!mount.named_disk) {
        if (mount.size_mib) fail_value("mount-named option `size` requires kind=disk");
        return mount;
    }
    if (!mount.size_mib) fail_value("mount-named kind=disk requires size=...");
    if (mount.quota_mib) fail_value("mount-named kind=disk does not support quota=...");
    if (notes.owner_policy)
        fail_value(
            "mount-named kind=disk does not support stat-virt=..., host-perms=..., or uid/gid");
    return mount;
}

MountValue parse_tmpfs(std::string_view text) {
    const auto colon = text.find(':');
    MountValue mount{.kind = MountKind::kTmpfs, .guest = std::string(text.substr(0, colon))};
    if (mount.guest.empty()) fail_value("tmpfs path must not be empty");
    if (colon == std::string_view::npos) return mount;

    // PATH:SIZE, PATH:OPTIONS or PATH:SIZE:OPTIONS. A single field is options when it looks like some.
    const auto rest = text.substr(colon + 1);
    const auto second = rest.find(':');
    static constexpr std::string_view kFlags[] = {"ro",    "rw",   "noexec", "nosuid",
                                                  "nodev", "suid", "exec",   "dev"};
    const bool only_options =
        second == std::string_view::npos &&
        (rest.find_first_of(",=") != std::string_view::npos ||
         std::find(std::begin(kFlags), std::end(kFlags), rest) != std::end(kFlags));
    if (only_options) {
        apply_options(mount, rest, {.size = true});
        return mount;
    }
    const auto size = rest.substr(0, second);
    if (size.empty() && second != std::string_view::npos)
        fail_value("tmpfs size must not be empty before options");
    const auto size_mib = parse_size_mib(size);
    if (second != std::string_view::npos)
        apply_options(mount, rest.substr(second + 1), {.size = true});
    if (mount.size_mib) fail_value("tmpfs size specified more than once");
    mount.size_mib = size_mib;
    return mount;
}

RootDiskValue parse_root_disk(std::string_view text) {
    if (text.empty())
        fail_value(
            "--root-disk requires a value (e.g. 8G, tmpfs:2G, flat:8G, "
            "./scratch.qcow2:format=qcow2)");
    if (text == "tmpfs") return {.kind = RootDiskValue::Kind::kTmpfs};
    if (text.starts_with("tmpfs:"))
        return {.kind = RootDiskValue::Kind::kTmpfs, .size_mib = parse_size_mib(text.substr(6))};
    if (text == "flat") return {.kind = RootDiskValue::Kind::kFlat};
    if (text.starts_with("flat:")) {
        RootDiskValue disk{.kind = RootDiskValue::Kind::kFlat};
        if (text.size() == 5) fail_value("--root-disk: flat: requires a size or option after ':'");
        parse_flat_options(disk, text.substr(5));
        return disk;
    }
    if (text.starts_with('.') || text.starts_with('~') || text.find('/') != std::string_view::npos)
        return parse_image_root(text);
    try {
        return {.kind = RootDiskValue::Kind::kManaged, .size_mib = parse_size_mib(text)};
    } catch (const Error& error) {
        fail_value("--root-disk: " + std::string(error.what()) +
                   " (expected a size, tmpfs[:SIZE], flat[:SIZE][,OPTIONS], or an image path)");
    }
}

CopyValue parse_copy(std::string_view text, CopyKind kind) {
    const std::string flag = kind == CopyKind::kAny    ? "--copy"
                             : kind == CopyKind::kFile ? "--copy-file"
                                                       : "--copy-dir";
    const auto at = text.find(":/");
    if (at == std::string_view::npos)
        fail_value(flag + " must be in format source:/guest[:options]");
    if (at == 0) fail_value(flag + " source path cannot be empty");
    CopyValue copy{std::string(text.substr(0, at)), std::string(text.substr(at + 1)), false};
    struct stat info{};
    if (::stat(copy.source.c_str(), &info) != 0)
        fail_value(flag + ": stat " + copy.source + ": " + os_error_text(errno));
    copy.directory = S_ISDIR(info.st_mode);
    if (kind == CopyKind::kFile && !S_ISREG(info.st_mode))
        fail_value(flag + ": " + copy.source + " is not a file");
    if (kind == CopyKind::kDirectory && !copy.directory)
        fail_value(flag + ": " + copy.source + " is not a directory");
    return copy;
}

std::string parse_guest_path(std::string_view text, std::string_view flag) {
    if (!text.starts_with('/'))
        fail_value(std::string(flag) + ": guest path must be absolute: " + std::string(text));
    return std::string(text);
}

}  // namespace msb::cli
