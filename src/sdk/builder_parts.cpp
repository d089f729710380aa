// The sub-builders: image, root disk, mount.
#include "sdk/builder_impl.h"
#include "sdk/path_text.h"

namespace microsandbox {

namespace state = msb::state;

namespace {

state::DiskFormat format_of(DiskFormat format) {
    switch (format) {
        case DiskFormat::kRaw:
            return state::DiskFormat::kRaw;
        case DiskFormat::kQcow2:
            return state::DiskFormat::kQcow2;
        case DiskFormat::kVmdk:
            return state::DiskFormat::kVmdk;
    }
    return state::DiskFormat::kRaw;
}

// The explicit format, else by the file name's extension (case-sensitive, spec/filesystem.md section 12.2).
std::optional<state::DiskFormat> disk_format(const std::optional<DiskFormat>& format,
                                             const std::string& path, std::string& problem) {
    if (format) return format_of(*format);
    const std::string extension = msb::sdk::extension_of(path);
    if (auto known = state::parse_disk_format_token(extension)) return known;
    problem = "unrecognized disk image extension: \"" + extension +
              "\" (expected .qcow2, .raw, or .vmdk)";
    return std::nullopt;
}

}  // namespace

// --- image ------------------------------------------------------------------------------------------------------

void ImageBuilder::Impl::fail(std::string message) {
    if (!error) error = std::move(message);
}

ImageBuilder& ImageBuilder::oci(std::string reference) {
    impl_->kind = Impl::Kind::kOci;
    impl_->text = std::move(reference);
    return *this;
}
ImageBuilder& ImageBuilder::disk(std::string path) {
    impl_->kind = Impl::Kind::kDisk;
    impl_->text = std::move(path);
    return *this;
}
ImageBuilder& ImageBuilder::bind(std::string path) {
    impl_->kind = Impl::Kind::kBind;
    impl_->text = std::move(path);
    return *this;
}
ImageBuilder& ImageBuilder::format(DiskFormat format) {
    if (impl_->kind != Impl::Kind::kDisk)
        impl_->fail("format() requires disk() to be called first");
    impl_->format = format;
    return *this;
}
ImageBuilder& ImageBuilder::fstype(std::string fstype) {
    if (impl_->kind != Impl::Kind::kDisk)
        impl_->fail("fstype() requires disk() to be called first");
    impl_->fstype = std::move(fstype);
    return *this;
}
ImageBuilder& ImageBuilder::follow_root_symlinks() {
    if (impl_->kind != Impl::Kind::kBind)
        impl_->fail("follow_root_symlinks is only valid for a bind rootfs (call .bind() first)");
    impl_->follow_root_symlinks = true;
    return *this;
}
ImageBuilder& ImageBuilder::upper_size(std::uint32_t mib) {
    if (impl_->kind != Impl::Kind::kOci)
        impl_->fail("root_disk() requires oci() to be called first");
    impl_->upper_size = mib;
    return *this;
}

std::optional<state::Image> ImageBuilder::Impl::finish(std::string& problem) const {
    if (error) {
        problem = *error;
        return std::nullopt;
    }
    switch (kind) {
        case Kind::kOci: {
            state::OciImage image{text, {}};
            if (upper_size) image.root_disk = state::ManagedRootDisk{*upper_size};
            return image;
        }
        case Kind::kBind:
            return state::BindImage{text, follow_root_symlinks};
        case Kind::kDisk: {
            auto known = disk_format(format, text, problem);
            if (!known) return std::nullopt;
            if (fstype && !msb::sdk::valid_fstype(*fstype)) {
                problem = "fstype must be non-empty and free of ',', ';', ':', '='";
                return std::nullopt;
            }
            return state::DiskImage{text, *known, fstype};
        }
        case Kind::kNone:
            break;
    }
    problem = "ImageBuilder: no image source set (call .oci(), .disk(), or .bind())";
    return std::nullopt;
}

// --- root disk --------------------------------------------------------------------------------------------------

void RootDiskBuilder::Impl::fail(std::string text) {
    if (!error) error = std::move(text);
}

void RootDiskBuilder::Impl::choose(Kind wanted, std::string_view call) {
    const char* before = kind == Kind::kTmpfs  ? "tmpfs()"
                         : kind == Kind::kFlat ? "flat()"
                         : kind == Kind::kDisk ? "disk_image()"
                                               : nullptr;
    if (before != nullptr && kind != wanted)
        fail(std::string(call) + " cannot be combined with " + before);
    kind = wanted;
}

RootDiskBuilder& RootDiskBuilder::size(std::uint32_t mib) {
    impl_->size = mib;
    return *this;
}
RootDiskBuilder& RootDiskBuilder::tmpfs() {
    impl_->choose(Impl::Kind::kTmpfs, "tmpfs()");
    return *this;
}
RootDiskBuilder& RootDiskBuilder::flat() {
    impl_->choose(Impl::Kind::kFlat, "flat()");
    return *this;
}
RootDiskBuilder& RootDiskBuilder::disk(std::string path) {
    impl_->choose(Impl::Kind::kDisk, "disk_image()");
    impl_->path = std::move(path);
    return *this;
}
RootDiskBuilder& RootDiskBuilder::format(DiskFormat format) {
    if (impl_->kind != Impl::Kind::kDisk)
        impl_->fail("format() requires disk_image() to be called first");
    impl_->format = format;
    return *this;
}
RootDiskBuilder& RootDiskBuilder::fstype(std::string fstype) {
    if (impl_->kind != Impl::Kind::kDisk && impl_->kind != Impl::Kind::kFlat)
        impl_->fail("fstype() requires flat() or disk_image() to be called first");
    if (!msb::sdk::valid_fstype(fstype))
        impl_->fail("fstype must be non-empty and free of ',', ';', ':', '='");
    impl_->fstype = std::move(fstype);
    return *this;
}
RootDiskBuilder& RootDiskBuilder::clone_strategy(CloneStrategy strategy) {
    if (impl_->kind != Impl::Kind::kFlat)
        impl_->fail("clone_strategy() requires flat() to be called first");
    impl_->clone = strategy;
    return *this;
}

std::optional<state::RootDisk> RootDiskBuilder::Impl::finish(std::string& problem) const {
    auto fail_with = [&](std::string text) {
        problem = std::move(text);
        return std::nullopt;
    };
    if (error) return fail_with(*error);
    switch (kind) {
        case Kind::kManaged:
            return state::ManagedRootDisk{size};
        case Kind::kTmpfs:
            return state::TmpfsRootDisk{size};
        case Kind::kFlat:
            if (size && *size == 0) return fail_with("flat root disk size must be greater than 0");
            return state::FlatRootDisk{size, fstype,
                                       clone == CloneStrategy::kCopy ? state::CloneStrategy::kCopy
                                       : clone == CloneStrategy::kReflink
                                           ? state::CloneStrategy::kReflink
                                           : state::CloneStrategy::kAuto};
        case Kind::kDisk:
            break;
    }
    if (size)
        return fail_with(
            "size() is not valid for a disk-image root disk; the image file determines the size");
    if (path.empty()) return fail_with("disk-image root disk path must not be empty");
    const std::string extension = msb::sdk::extension_of(path);
    if (format ? *format == DiskFormat::kVmdk : extension == "vmdk")
        return fail_with("vmdk is not supported as a root disk (writable vmdk is unavailable)");
    if (format) return state::DiskImageRootDisk{path, format_of(*format), fstype};
    if (extension == "qcow2")
        return state::DiskImageRootDisk{path, state::DiskFormat::kQcow2, fstype};
    if (extension == "raw" || extension == "img")
        return state::DiskImageRootDisk{path, state::DiskFormat::kRaw, fstype};
    return fail_with("unrecognized root disk image extension: \"" + extension +
                     "\" (expected .img, .raw, or .qcow2; or set format() explicitly)");
}

// --- mount ------------------------------------------------------------------------------------------------------

MountBuilder& MountBuilder::bind(std::string host_path) {
    impl_->kind = Impl::Kind::kBind;
    impl_->source = std::move(host_path);
    return *this;
}
MountBuilder& MountBuilder::named(std::string volume) {
    impl_->kind = Impl::Kind::kNamed;
    impl_->source = std::move(volume);
    return *this;
}
MountBuilder& MountBuilder::tmpfs() {
    impl_->kind = Impl::Kind::kTmpfs;
    return *this;
}
MountBuilder& MountBuilder::disk(std::string host_path) {
    impl_->kind = Impl::Kind::kDisk;
    impl_->source = std::move(host_path);
    return *this;
}
MountBuilder& MountBuilder::size(std::uint32_t mib) {
    impl_->size = mib;
    return *this;
}
MountBuilder& MountBuilder::quota(std::uint32_t mib) {
    impl_->quota = mib;
    return *this;
}
MountBuilder& MountBuilder::format(DiskFormat format) {
    impl_->format = format;
    return *this;
}
MountBuilder& MountBuilder::fstype(std::string fstype) {
    impl_->fstype = std::move(fstype);
    return *this;
}
MountBuilder& MountBuilder::readonly(bool on) {
    impl_->options.readonly = on;
    return *this;
}
MountBuilder& MountBuilder::noexec(bool on) {
    impl_->options.noexec = on;
    return *this;
}
MountBuilder& MountBuilder::nosuid(bool on) {
    impl_->options.nosuid = on;
    return *this;
}
MountBuilder& MountBuilder::nodev(bool on) {
    impl_->options.nodev = on;
    return *this;
}
MountBuilder& MountBuilder::stat_virtualization(StatVirtualization policy) {
    impl_->stat_virtualization =
        policy == StatVirtualization::kStrict    ? state::StatVirtualization::kStrict
        : policy == StatVirtualization::kRelaxed ? state::StatVirtualization::kRelaxed
                                                 : state::StatVirtualization::kOff;
    return *this;
}
MountBuilder& MountBuilder::host_permissions(HostPermissions policy) {
    impl_->host_permissions = policy == HostPermissions::kMirror ? state::HostPermissions::kMirror
                                                                 : state::HostPermissions::kPrivate;
    return *this;
}
MountBuilder& MountBuilder::follow_root_symlinks(bool on) {
    impl_->follow_root_symlinks = on;
    return *this;
}
MountBuilder& MountBuilder::owner(std::uint32_t uid, std::uint32_t gid) {
    impl_->options.override_uid = uid;
    impl_->options.override_gid = gid;
    impl_->owner_set = true;
    return *this;
}

std::optional<state::Mount> MountBuilder::Impl::finish(const std::string& guest,
                                                       std::string& problem) const {
    const bool shared = kind == Kind::kBind || kind == Kind::kNamed;
    auto only_for = [&](bool set, bool allowed, std::string_view text) {
        if (set && !allowed && problem.empty()) problem = text;
    };
    if (kind == Kind::kNone)
        problem = "MountBuilder: no mount type set (call .bind(), .named(), .tmpfs(), or .disk())";
    only_for(size.has_value(), kind == Kind::kTmpfs, ".size() is only valid for tmpfs mounts");
    only_for(quota.has_value(), kind == Kind::kBind,
             ".quota() is only valid for bind mounts; for named volumes use .named_with(|v| "
             "v.quota(..))");
    only_for(format.has_value(), kind == Kind::kDisk,
             ".format() is only valid for disk image mounts");
    only_for(fstype.has_value(), kind == Kind::kDisk,
             ".fstype() is only valid for disk image mounts");
    only_for(
        stat_virtualization.has_value(), shared,
        ".stat_virtualization() is only valid for bind and directory-backed named volume mounts");
    only_for(host_permissions.has_value(), shared,
             ".host_permissions() is only valid for bind and directory-backed named volume mounts");
    only_for(owner_set, shared,
             ".owner() is only valid for bind and directory-backed named volume mounts");
    if (!problem.empty()) return std::nullopt;

    const auto virtualization = stat_virtualization.value_or(state::StatVirtualization::kStrict);
    const auto permissions = host_permissions.value_or(state::HostPermissions::kPrivate);
    switch (kind) {
        case Kind::kBind:
            return state::BindMount{
                source, guest, options, virtualization, permissions, follow_root_symlinks, quota};
        case Kind::kNamed:
            return state::NamedMount{source,         guest,       options,
                                     virtualization, permissions, follow_root_symlinks};
        case Kind::kTmpfs:
            return state::TmpfsMount{guest, size, options};
        case Kind::kDisk:
        case Kind::kNone:
            break;
    }
    // For a mount every other extension means raw.
    const auto known = format ? format_of(*format)
                              : state::parse_disk_format_token(msb::sdk::extension_of(source))
                                    .value_or(state::DiskFormat::kRaw);
    return state::DiskImageMount{source, guest, known, fstype, options};
}

}  // namespace microsandbox
