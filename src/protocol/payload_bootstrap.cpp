// Payload of core.bootstrap (spec/protocol.md section 5, spec/guest-agent.md section 3) with our own keys at its end.
#include "protocol/payload_codec.h"

namespace msb::protocol {

namespace detail {

template <>
struct Schema<DiskImageRoot> {
    static constexpr std::tuple fields{field("device", &DiskImageRoot::device),
                                       omitted("fstype", &DiskImageRoot::fstype)};
};

template <>
struct Schema<DeviceUpper> {
    static constexpr std::tuple fields{field("device", &DeviceUpper::device),
                                       field("fstype", &DeviceUpper::fstype)};
};

template <>
struct Schema<TmpfsUpper> {
    static constexpr std::tuple fields{omitted("size_mib", &TmpfsUpper::size_mib)};
};

template <>
struct KindNames<std::variant<DeviceUpper, TmpfsUpper>> {
    static constexpr std::array<std::string_view, 2> names{"device", "tmpfs"};
};

template <>
struct Schema<OciErofsRoot> {
    static constexpr std::tuple fields{field("lower", &OciErofsRoot::lower),
                                       field("upper", &OciErofsRoot::upper)};
};

template <>
struct KindNames<BlockRoot> {
    static constexpr std::array<std::string_view, 2> names{"disk-image", "oci-erofs"};
};

template <>
struct Schema<MountFlags> {
    static constexpr std::tuple fields{
        defaulted("readonly", &MountFlags::readonly), defaulted("noexec", &MountFlags::noexec),
        defaulted("nosuid", &MountFlags::nosuid), defaulted("nodev", &MountFlags::nodev)};
};

template <>
struct Schema<DirMount> {
    static constexpr std::tuple fields{field("tag", &DirMount::tag),
                                       field("guest_path", &DirMount::guest_path),
                                       defaulted("flags", &DirMount::flags)};
};

template <>
struct Schema<FileMount> {
    static constexpr std::tuple fields{
        field("tag", &FileMount::tag), field("filename", &FileMount::filename),
        field("guest_path", &FileMount::guest_path), defaulted("flags", &FileMount::flags)};
};

template <>
struct Schema<DiskMount> {
    static constexpr std::tuple fields{
        field("id", &DiskMount::id), field("guest_path", &DiskMount::guest_path),
        omitted("fstype", &DiskMount::fstype), defaulted("flags", &DiskMount::flags)};
};

template <>
struct Schema<TmpfsMount> {
    static constexpr std::tuple fields{
        field("path", &TmpfsMount::path), omitted("size_mib", &TmpfsMount::size_mib),
        omitted("mode", &TmpfsMount::mode), defaulted("flags", &TmpfsMount::flags)};
};

template <std::size_t N>
struct Schema<IpFamily<N>> {
    static constexpr std::tuple fields{
        field("address", &IpFamily<N>::address), field("prefix_len", &IpFamily<N>::prefix_len),
        field("gateway", &IpFamily<N>::gateway), omitted("dns", &IpFamily<N>::dns)};
};

template <>
struct Schema<GuestNetwork> {
    static constexpr std::tuple fields{
        field("interface", &GuestNetwork::interface), field("mac", &GuestNetwork::mac),
        field("mtu", &GuestNetwork::mtu), omitted("ipv4", &GuestNetwork::ipv4),
        omitted("ipv6", &GuestNetwork::ipv6)};
};

template <>
struct Schema<EnvVar> {
    static constexpr std::tuple fields{field("key", &EnvVar::key), field("value", &EnvVar::value)};
};

template <>
struct Schema<HandoffInit> {
    static constexpr std::tuple fields{
        field("cmd", &HandoffInit::cmd), omitted("args", &HandoffInit::args),
        omitted("cwd", &HandoffInit::cwd), omitted("env", &HandoffInit::env)};
};

template <>
struct EnumNames<SecurityProfile> {
    static constexpr std::array<std::string_view, 2> names{"default", "restricted"};
};

template <>
struct Schema<RuntimeFile> {
    static constexpr std::tuple fields{field("path", &RuntimeFile::path),
                                       defaulted("mode", &RuntimeFile::mode),
                                       field("content", &RuntimeFile::content)};
};

template <>
struct Schema<Bootstrap> {
    static constexpr std::tuple fields{
        omitted("block_root", &Bootstrap::block_root),
        omitted("dir_mounts", &Bootstrap::dir_mounts),
        omitted("file_mounts", &Bootstrap::file_mounts),
        omitted("disk_mounts", &Bootstrap::disk_mounts),
        omitted("tmpfs_mounts", &Bootstrap::tmpfs_mounts),
        omitted("hostname", &Bootstrap::hostname), omitted("host_alias", &Bootstrap::host_alias),
        omitted("network", &Bootstrap::network), omitted("rlimits", &Bootstrap::rlimits),
        omitted("user", &Bootstrap::user), omitted("default_cwd", &Bootstrap::default_cwd),
        omitted("default_env", &Bootstrap::default_env),
        defaulted("security_profile", &Bootstrap::security_profile),
        omitted("handoff_init", &Bootstrap::handoff_init),
        // ours
        omitted("runtime_files", &Bootstrap::runtime_files),
        omitted("runtime_share", &Bootstrap::runtime_share),
        omitted("entropy", &Bootstrap::entropy)};
};

}  // namespace detail

std::string_view to_string(SecurityProfile profile) noexcept {
    return detail::EnumNames<SecurityProfile>::names[static_cast<std::size_t>(profile)];
}

MSB_PROTOCOL_INSTANTIATE(Bootstrap)

}  // namespace msb::protocol
