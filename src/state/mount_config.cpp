#include "state/mount_config.h"

#include "base/text.h"
#include "state/config_fields.h"
#include "state/config_json.h"

namespace msb::state {

namespace {

using json::Reader;
using json::Value;

constexpr std::array<std::string_view, 3> kDiskFormats = {"Qcow2", "Raw", "Vmdk"};
constexpr std::array<std::string_view, 3> kDiskFormatTokens = {"qcow2", "raw", "vmdk"};
constexpr std::array<std::string_view, 3> kStatVirtualizations = {"strict", "relaxed", "off"};
constexpr std::array<std::string_view, 2> kHostPermissions = {"private", "mirror"};
constexpr std::array<std::string_view, 4> kMountTypes = {"Bind", "Named", "Tmpfs", "DiskImage"};

// `options`, or the top-level `readonly` of older documents, which counts only in their absence.
MountOptions read_options(const Reader& mount) {
    MountOptions options;
    const bool legacy_readonly = mount.boolean_or("readonly", false);
    if (mount.has("options")) {
        const Reader reader(mount.raw("options"), "MountOptions");
        options.readonly = reader.boolean_or("readonly", false);
        options.noexec = reader.boolean_or("noexec", false);
        options.nosuid = reader.boolean_or("nosuid", false);
        options.nodev = reader.boolean_or("nodev", false);
        options.override_uid = reader.optional_integer<std::uint32_t>("override_uid");
        options.override_gid = reader.optional_integer<std::uint32_t>("override_gid");
    } else {
        options.readonly = legacy_readonly;
    }
    return options;
}

Value write_options(const MountOptions& options) {
    Value value = Value::object();
    value["readonly"] = options.readonly;
    value["noexec"] = options.noexec;
    value["nosuid"] = options.nosuid;
    value["nodev"] = options.nodev;
    set_if(value, "override_uid", options.override_uid);
    set_if(value, "override_gid", options.override_gid);
    return value;
}

template <class M>
void read_sharing(const Reader& reader, M& mount) {
    mount.stat_virtualization = read_variant_or(reader, "stat_virtualization", kStatVirtualizations,
                                                StatVirtualization::kStrict);
    mount.host_permissions =
        read_variant_or(reader, "host_permissions", kHostPermissions, HostPermissions::kPrivate);
    mount.follow_root_symlinks = reader.boolean_or("follow_root_symlinks", false);
}

template <class M>
void write_sharing(Value& value, const M& mount) {
    value["stat_virtualization"] = to_string(mount.stat_virtualization);
    value["host_permissions"] = to_string(mount.host_permissions);
    value["follow_root_symlinks"] = mount.follow_root_symlinks;
}

Mount read_bind(const Reader& reader) {
    BindMount mount;
    mount.host = reader.string("host");
    mount.guest = reader.string("guest");
    mount.options = read_options(reader);
    read_sharing(reader, mount);
    mount.quota_mib = reader.optional_integer<std::uint32_t>("quota_mib");
    return mount;
}

Mount read_named(const Reader& reader) {
    NamedMount mount;
    mount.name = reader.string("name");
    mount.guest = reader.string("guest");
    mount.options = read_options(reader);
    read_sharing(reader, mount);
    return mount;
}

Mount read_tmpfs(const Reader& reader) {
    TmpfsMount mount;
    mount.guest = reader.string("guest");
    mount.size_mib = reader.optional_integer<std::uint32_t>("size_mib");
    mount.options = read_options(reader);
    return mount;
}

Mount read_disk_image(const Reader& reader) {
    DiskImageMount mount;
    mount.host = reader.string("host");
    mount.guest = reader.string("guest");
    mount.format = read_variant<DiskFormat>(reader.raw("format"), kDiskFormats);
    mount.fstype = reader.optional_string("fstype");
    mount.options = read_options(reader);
    return mount;
}

struct Writer {
    Value operator()(const BindMount& mount) const {
        Value value = start("Bind");
        value["host"] = mount.host;
        value["guest"] = mount.guest;
        value["options"] = write_options(mount.options);
        write_sharing(value, mount);
        value["quota_mib"] = or_null(mount.quota_mib);
        return value;
    }
    Value operator()(const NamedMount& mount) const {
        Value value = start("Named");
        value["name"] = mount.name;
        value["guest"] = mount.guest;
        value["options"] = write_options(mount.options);
        write_sharing(value, mount);
        return value;
    }
    Value operator()(const TmpfsMount& mount) const {
        Value value = start("Tmpfs");
        value["guest"] = mount.guest;
        value["size_mib"] = or_null(mount.size_mib);
        value["options"] = write_options(mount.options);
        return value;
    }
    Value operator()(const DiskImageMount& mount) const {
        Value value = start("DiskImage");
        value["host"] = mount.host;
        value["guest"] = mount.guest;
        value["format"] = to_string(mount.format);
        value["fstype"] = or_null(mount.fstype);
        value["options"] = write_options(mount.options);
        return value;
    }

  private:
    static Value start(const char* type) {
        Value value = Value::object();
        value["type"] = type;
        return value;
    }
};

}  // namespace

std::string_view to_string(DiskFormat format) {
    return variant_name(format, kDiskFormats);
}

std::string_view disk_format_token(DiskFormat format) {
    return variant_name(format, kDiskFormatTokens);
}

std::optional<DiskFormat> parse_disk_format_token(std::string_view token) {
    for (std::size_t i = 0; i < kDiskFormatTokens.size(); ++i) {
        if (kDiskFormatTokens[i] == token) return static_cast<DiskFormat>(i);
    }
    return std::nullopt;
}

std::string_view to_string(StatVirtualization mode) {
    return variant_name(mode, kStatVirtualizations);
}

std::string_view to_string(HostPermissions mode) {
    return variant_name(mode, kHostPermissions);
}

const std::string& guest_path(const Mount& mount) {
    return std::visit([](const auto& m) -> const std::string& { return m.guest; }, mount);
}

std::string& guest_path(Mount& mount) {
    return std::visit([](auto& m) -> std::string& { return m.guest; }, mount);
}

const MountOptions& mount_options(const Mount& mount) {
    return std::visit([](const auto& m) -> const MountOptions& { return m.options; }, mount);
}

Mount mount_from_json(const Value& value) {
    const Reader reader(value, "VolumeMount");
    switch (json::to_variant(reader.raw("type"), std::span<const std::string_view>(kMountTypes))) {
        case 0:
            return read_bind(reader);
        case 1:
            return read_named(reader);
        case 2:
            return read_tmpfs(reader);
        default:
            return read_disk_image(reader);
    }
}

Value to_json(const Mount& mount) {
    return std::visit(Writer{}, mount);
}

DiskFormat disk_format_from_json(const Value& value) {
    return read_variant<DiskFormat>(value, kDiskFormats);
}

}  // namespace msb::state
