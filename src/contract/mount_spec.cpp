#include "contract/mount_spec.h"

#include <set>

#include "base/error.h"
#include "base/hash.h"
#include "base/text.h"

namespace msb::contract {
namespace {

constexpr std::uint64_t kMiB = 1'048'576;

[[noreturn]] void fail(const std::string& message) {
    throw Error(ErrorCode::kCustom, message);
}

// Collects the options of one mount; every option may be given once.
class OptionReader {
  public:
    explicit OptionReader(MountSpec& mount) : mount_(mount) {}

    void read(std::string_view option) {
        const std::size_t equals = option.find('=');
        if (equals == std::string_view::npos)
            flag(option);
        else
            key_value(option.substr(0, equals), option.substr(equals + 1));
    }

    void check() const {
        if (mount_.uid.has_value() != mount_.gid.has_value())
            fail("mount options `uid` and `gid` must be specified together");
        if (mount_.uid && mount_.stat_virt == StatVirtualization::kOff)
            fail("mount options `uid` and `gid` cannot be combined with stat-virt=off");
    }

  private:
    void once(std::string_view name) {
        if (!seen_.insert(std::string(name)).second)
            fail("mount option `" + std::string(name) + "` specified more than once");
    }

    void flag(std::string_view word) {
        if (word == "ro" || word == "rw") {
            once("ro`/`rw");
            mount_.read_only = word == "ro";
        } else if (word == "noexec") {
            once(word);
            mount_.noexec = true;
        } else if (word == "nosuid") {
            once(word);
            mount_.nosuid = true;
        } else if (word == "nodev") {
            once(word);
            mount_.nodev = true;
        } else if (word == "follow-root-symlinks") {
            once(word);
            mount_.follow_root_symlinks = true;
        } else if (word == "suid" || word == "exec" || word == "dev") {
            fail("unsupported mount option " + quoted(word));
        } else {
            fail("expected flag or key=value option, got " + quoted(word));
        }
    }

    void key_value(std::string_view key, std::string_view value) {
        if (key == "stat-virt") {
            once(key);
            if (value == "strict")
                mount_.stat_virt = StatVirtualization::kStrict;
            else if (value == "relaxed")
                mount_.stat_virt = StatVirtualization::kRelaxed;
            else if (value == "off")
                mount_.stat_virt = StatVirtualization::kOff;
            else
                fail("invalid stat-virt " + quoted(value) + " (expected strict|relaxed|off)");
        } else if (key == "host-perms") {
            once(key);
            if (value == "private")
                mount_.host_perms = HostPermissions::kPrivate;
            else if (value == "mirror")
                mount_.host_perms = HostPermissions::kMirror;
            else
                fail("invalid host-perms " + quoted(value) + " (expected private|mirror)");
        } else if (key == "quota") {
            once(key);
            const auto mib = parse_integer<std::uint64_t>(value);
            if (!mib)
                fail("invalid quota " + quoted(value) + " (expected an integer count of MiB)");
            mount_.quota_bytes = *mib > UINT64_MAX / kMiB ? UINT64_MAX : *mib * kMiB;
        } else if (key == "uid" || key == "gid") {
            once(key);
            const auto id = parse_integer<std::uint32_t>(value);
            if (!id)
                fail("invalid " + std::string(key) + " " + quoted(value) +
                     " (expected an unsigned integer)");
            (key == "uid" ? mount_.uid : mount_.gid) = *id;
        } else {
            fail("unknown mount option " + quoted(key));
        }
    }

    MountSpec& mount_;
    std::set<std::string> seen_;
};

}  // namespace

MountSpec parse_mount_spec(std::string_view spec) {
    const std::size_t first = spec.find(':');
    if (first == std::string_view::npos)
        fail("expected tag:host_path[:opts] shape, got " + quoted(spec));
    MountSpec mount;
    mount.tag = spec.substr(0, first);
    const std::string_view rest = spec.substr(first + 1);
    const std::size_t last = rest.rfind(':');
    const std::string_view host = rest.substr(0, last);
    if (mount.tag.empty()) fail("empty tag in mount spec " + quoted(spec));
    if (host.empty()) fail("empty host path in mount spec " + quoted(spec));
    if (host.find(',') != std::string_view::npos)
        fail("mount options must use tag:host_path:opts syntax, got comma in host path " +
             quoted(host));
    mount.host_path = host;
    OptionReader options(mount);
    if (last != std::string_view::npos) {
        for (std::string_view option : split(rest.substr(last + 1), ',')) {
            if (option = trim(option); !option.empty()) options.read(option);
        }
    }
    options.check();
    return mount;
}

std::string format_mount_spec(const MountSpec& mount) {
    std::vector<std::string> options;
    if (mount.read_only) options.emplace_back("ro");
    if (mount.noexec) options.emplace_back("noexec");
    if (mount.nosuid) options.emplace_back("nosuid");
    if (mount.nodev) options.emplace_back("nodev");
    if (mount.follow_root_symlinks) options.emplace_back("follow-root-symlinks");
    if (mount.stat_virt == StatVirtualization::kRelaxed) options.emplace_back("stat-virt=relaxed");
    if (mount.stat_virt == StatVirtualization::kOff) options.emplace_back("stat-virt=off");
    if (mount.host_perms == HostPermissions::kMirror) options.emplace_back("host-perms=mirror");
    if (mount.quota_bytes) options.push_back("quota=" + std::to_string(*mount.quota_bytes / kMiB));
    if (mount.uid) options.push_back("uid=" + std::to_string(*mount.uid));
    if (mount.gid) options.push_back("gid=" + std::to_string(*mount.gid));
    std::string out = mount.tag + ":" + mount.host_path.string();
    // A host path with a colon needs the (possibly empty) option field, or its tail would be taken for it.
    if (!options.empty() || mount.host_path.string().find(':') != std::string::npos)
        out += ":" + join(options, ",");
    return out;
}

std::optional<DiskImageFormat> parse_disk_format(std::string_view name) {
    if (name == "raw") return DiskImageFormat::kRaw;
    if (name == "qcow2") return DiskImageFormat::kQcow2;
    if (name == "vmdk") return DiskImageFormat::kVmdk;
    return std::nullopt;
}

std::string_view to_string(DiskImageFormat format) noexcept {
    switch (format) {
        case DiskImageFormat::kQcow2:
            return "qcow2";
        case DiskImageFormat::kVmdk:
            return "vmdk";
        case DiskImageFormat::kRaw:
            break;
    }
    return "raw";
}

DiskSpec parse_disk_spec(std::string_view spec) {
    DiskSpec disk;
    std::string_view rest = spec;
    const std::string shape =
        "invalid --disk entry, expected id:host:format[:ro], got: " + quoted(spec);
    const std::size_t first = rest.find(':');
    if (first == std::string_view::npos) fail(shape);
    disk.id = rest.substr(0, first);
    rest.remove_prefix(first + 1);
    if (rest.ends_with(":ro")) {
        disk.read_only = true;
        rest.remove_suffix(3);
    }
    const std::size_t last = rest.rfind(':');
    if (last == std::string_view::npos) fail(shape);
    if (disk.id.empty()) fail("invalid --disk entry with empty id: " + quoted(spec));
    disk.host_path = rest.substr(0, last);
    if (disk.host_path.empty()) fail("invalid --disk entry with empty host path: " + quoted(spec));
    const auto format = parse_disk_format(rest.substr(last + 1));
    if (!format)
        fail("invalid --disk entry with unknown format " + quoted(rest.substr(last + 1)) + ": " +
             quoted(spec));
    disk.format = *format;
    return disk;
}

std::string format_disk_spec(const DiskSpec& disk) {
    return disk.id + ":" + disk.host_path.string() + ":" + std::string(to_string(disk.format)) +
           (disk.read_only ? ":ro" : "");
}

std::string mount_tag(std::string_view guest_path) {
    constexpr std::size_t kSlugCharacters = 11;
    std::string slug(guest_path);
    for (char& c : slug)
        if (c == '/') c = '_';
    slug.erase(0, std::min(slug.find_first_not_of('_'), slug.size()));
    // Characters, not bytes: a multi-byte character is kept whole.
    std::size_t end = 0;
    for (std::size_t count = 0; end < slug.size() && count < kSlugCharacters; ++count) {
        ++end;
        while (end < slug.size() && (static_cast<unsigned char>(slug[end]) & 0xC0) == 0x80)
            ++end;
    }
    slug.resize(end);
    if (!slug.empty()) slug += '_';
    return slug + sha256_hex(guest_path).substr(0, 8);
}

}  // namespace msb::contract
