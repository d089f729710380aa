#include "contract/bootstrap_json.h"

#include <arpa/inet.h>

#include "base/json.h"

namespace msb::contract {
namespace {

using json::ParseError;
using json::Reader;
using json::Value;
using namespace protocol;

// --- reading ----------------------------------------------------------------------------------------------------

MountFlags read_flags(const Reader& owner) {
    MountFlags flags;
    if (const Value* value = owner.find("flags")) {
        Reader reader(*value, "MountFlags");
        flags.readonly = reader.boolean_or("readonly", false);
        flags.noexec = reader.boolean_or("noexec", false);
        flags.nosuid = reader.boolean_or("nosuid", false);
        flags.nodev = reader.boolean_or("nodev", false);
    }
    return flags;
}

// Calls `read(Reader)` for every object of the list `key`, if there is one.
template <class T, class Read>
std::vector<T> read_list(const Reader& reader, std::string_view key, std::string_view what,
                         Read read) {
    std::vector<T> out;
    if (const Value* list = reader.find(key)) {
        for (const Value& item : json::expect_array(*list))
            out.push_back(read(Reader(item, what)));
    }
    return out;
}

BlockRoot read_block_root(const Value& value) {
    Reader reader(value, "BlockRoot");
    if (reader.variant("kind", {"disk-image", "oci-erofs"}) == 0)
        return DiskImageRoot{.device = reader.string("device"),
                             .fstype = reader.optional_string("fstype")};
    OciErofsRoot root;
    root.lower = reader.string("lower");
    Reader upper(reader.raw("upper"), "BlockRootUpper");
    if (upper.variant("kind", {"device", "tmpfs"}) == 0)
        root.upper =
            DeviceUpper{.device = upper.string("device"), .fstype = upper.string("fstype")};
    else
        root.upper = TmpfsUpper{.size_mib = upper.optional_integer<std::uint32_t>("size_mib")};
    return root;
}

template <std::size_t N>
std::array<std::uint8_t, N> read_octets(const Value& value) {
    std::array<std::uint8_t, N> out{};
    if (value.is_string()) {
        const std::string text = json::to_string(value);
        if (inet_pton(N == 4 ? AF_INET : AF_INET6, text.c_str(), out.data()) != 1)
            throw ParseError(N == 4 ? "invalid IPv4 address syntax"
                                    : "invalid IPv6 address syntax");
        return out;
    }
    const Value& list = json::expect_array(value);
    if (list.size() != N)
        throw ParseError("invalid length " + std::to_string(list.size()) +
                         ", expected an array of length " + std::to_string(N));
    for (std::size_t i = 0; i < N; ++i)
        out[i] = json::to_integer<std::uint8_t>(list[i]);
    return out;
}

template <std::size_t N>
std::optional<IpFamily<N>> read_family(const Reader& network, std::string_view key) {
    if (!network.has(key)) return std::nullopt;
    Reader reader(network.raw(key), "IpConfig");
    IpFamily<N> family;
    family.address = read_octets<N>(reader.raw("address"));
    family.prefix_len = reader.integer<std::uint8_t>("prefix_len");
    family.gateway = read_octets<N>(reader.raw("gateway"));
    if (reader.has("dns")) family.dns = read_octets<N>(reader.raw("dns"));
    return family;
}

GuestNetwork read_network(const Value& value) {
    Reader reader(value, "GuestNetwork");
    GuestNetwork network;
    network.interface = reader.string("interface");
    // A MAC is always a list of numbers; text is an error.
    network.mac = read_octets<6>(json::expect_array(reader.raw("mac")));
    network.mtu = reader.integer<std::uint16_t>("mtu");
    network.ipv4 = read_family<4>(reader, "ipv4");
    network.ipv6 = read_family<16>(reader, "ipv6");
    return network;
}

EnvVar read_env_var(const Reader& reader) {
    return {.key = reader.string("key"), .value = reader.string("value")};
}

HandoffInit read_handoff(const Value& value) {
    Reader reader(value, "HandoffInit");
    HandoffInit init;
    init.cmd = reader.string("cmd");
    init.args = reader.string_list_or_empty("args");
    init.cwd = reader.optional_string("cwd");
    init.env = read_list<EnvVar>(reader, "env", "EnvVar", read_env_var);
    return init;
}

void read_mounts(const Reader& reader, Bootstrap& out) {
    out.dir_mounts = read_list<DirMount>(reader, "dir_mounts", "DirMount", [](const Reader& item) {
        return DirMount{.tag = item.string("tag"),
                        .guest_path = item.string("guest_path"),
                        .flags = read_flags(item)};
    });
    out.file_mounts =
        read_list<FileMount>(reader, "file_mounts", "FileMount", [](const Reader& item) {
            return FileMount{.tag = item.string("tag"),
                             .filename = item.string("filename"),
                             .guest_path = item.string("guest_path"),
                             .flags = read_flags(item)};
        });
    out.disk_mounts =
        read_list<DiskMount>(reader, "disk_mounts", "DiskMount", [](const Reader& item) {
            return DiskMount{.id = item.string("id"),
                             .guest_path = item.string("guest_path"),
                             .fstype = item.optional_string("fstype"),
                             .flags = read_flags(item)};
        });
    out.tmpfs_mounts =
        read_list<TmpfsMount>(reader, "tmpfs_mounts", "TmpfsMount", [](const Reader& item) {
            return TmpfsMount{.path = item.string("path"),
                              .size_mib = item.optional_integer<std::uint32_t>("size_mib"),
                              .mode = item.optional_integer<std::uint32_t>("mode"),
                              .flags = read_flags(item)};
        });
}

// --- writing ----------------------------------------------------------------------------------------------------

Value flags_json(const MountFlags& flags) {
    return {{"readonly", flags.readonly},
            {"noexec", flags.noexec},
            {"nosuid", flags.nosuid},
            {"nodev", flags.nodev}};
}

template <class T>
void put_optional(Value& out, const char* key, const std::optional<T>& value) {
    if (value) out[key] = *value;
}

// Writes the list under `key` unless it is empty.
template <class T, class Write>
void put_list(Value& out, const char* key, const std::vector<T>& list, Write write) {
    if (list.empty()) return;
    Value& array = out[key] = Value::array();
    for (const T& item : list)
        array.push_back(write(item));
}

Value block_root_json(const BlockRoot& root) {
    Value out;
    if (const auto* disk = std::get_if<DiskImageRoot>(&root)) {
        out = {{"kind", "disk-image"}, {"device", disk->device}};
        put_optional(out, "fstype", disk->fstype);
        return out;
    }
    const auto& oci = std::get<OciErofsRoot>(root);
    Value upper;
    if (const auto* device = std::get_if<DeviceUpper>(&oci.upper)) {
        upper = {{"kind", "device"}, {"device", device->device}, {"fstype", device->fstype}};
    } else {
        upper = {{"kind", "tmpfs"}};
        put_optional(upper, "size_mib", std::get<TmpfsUpper>(oci.upper).size_mib);
    }
    return {{"kind", "oci-erofs"}, {"lower", oci.lower}, {"upper", std::move(upper)}};
}

template <std::size_t N>
std::string address_text(const std::array<std::uint8_t, N>& address) {
    char text[INET6_ADDRSTRLEN] = {};
    inet_ntop(N == 4 ? AF_INET : AF_INET6, address.data(), text, sizeof text);
    return text;
}

template <std::size_t N>
Value family_json(const IpFamily<N>& family) {
    Value out = {{"address", address_text(family.address)},
                 {"prefix_len", family.prefix_len},
                 {"gateway", address_text(family.gateway)}};
    if (family.dns) out["dns"] = address_text(*family.dns);
    return out;
}

Value network_json(const GuestNetwork& network) {
    Value out = {{"interface", network.interface}, {"mac", network.mac}, {"mtu", network.mtu}};
    if (network.ipv4) out["ipv4"] = family_json(*network.ipv4);
    if (network.ipv6) out["ipv6"] = family_json(*network.ipv6);
    return out;
}

Value env_var_json(const EnvVar& var) {
    return {{"key", var.key}, {"value", var.value}};
}

Value handoff_json(const HandoffInit& init) {
    Value out = {{"cmd", init.cmd}};
    if (!init.args.empty()) out["args"] = init.args;
    put_optional(out, "cwd", init.cwd);
    put_list(out, "env", init.env, env_var_json);
    return out;
}

void write_mounts(Value& out, const Bootstrap& bootstrap) {
    put_list(out, "dir_mounts", bootstrap.dir_mounts, [](const DirMount& mount) -> Value {
        return {{"tag", mount.tag},
                {"guest_path", mount.guest_path},
                {"flags", flags_json(mount.flags)}};
    });
    put_list(out, "file_mounts", bootstrap.file_mounts, [](const FileMount& mount) -> Value {
        return {{"tag", mount.tag},
                {"filename", mount.filename},
                {"guest_path", mount.guest_path},
                {"flags", flags_json(mount.flags)}};
    });
    put_list(out, "disk_mounts", bootstrap.disk_mounts, [](const DiskMount& mount) {
        Value item = {{"id", mount.id}, {"guest_path", mount.guest_path}};
        put_optional(item, "fstype", mount.fstype);
        item["flags"] = flags_json(mount.flags);
        return item;
    });
    put_list(out, "tmpfs_mounts", bootstrap.tmpfs_mounts, [](const TmpfsMount& mount) {
        Value item = {{"path", mount.path}};
        put_optional(item, "size_mib", mount.size_mib);
        put_optional(item, "mode", mount.mode);
        item["flags"] = flags_json(mount.flags);
        return item;
    });
}

}  // namespace

Bootstrap bootstrap_from_json(const Value& value) {
    Reader reader(value, "GuestBootstrap");
    Bootstrap out;
    if (reader.has("block_root")) out.block_root = read_block_root(reader.raw("block_root"));
    read_mounts(reader, out);
    out.hostname = reader.optional_string("hostname");
    out.host_alias = reader.optional_string("host_alias");
    if (reader.has("network")) out.network = read_network(reader.raw("network"));
    out.rlimits = read_list<Rlimit>(reader, "rlimits", "Rlimit", [](const Reader& item) {
        return Rlimit{.resource = item.string("resource"),
                      .soft = item.integer<std::uint64_t>("soft"),
                      .hard = item.integer<std::uint64_t>("hard")};
    });
    out.user = reader.optional_string("user");
    out.default_cwd = reader.optional_string("default_cwd");
    out.default_env = read_list<EnvVar>(reader, "default_env", "EnvVar", read_env_var);
    out.security_profile = static_cast<SecurityProfile>(
        reader.variant_or("security_profile", {"default", "restricted"}, 0));
    if (reader.has("handoff_init")) out.handoff_init = read_handoff(reader.raw("handoff_init"));
    return out;
}

Value bootstrap_to_json(const Bootstrap& bootstrap) {
    Value out = Value::object();
    if (bootstrap.block_root) out["block_root"] = block_root_json(*bootstrap.block_root);
    write_mounts(out, bootstrap);
    put_optional(out, "hostname", bootstrap.hostname);
    put_optional(out, "host_alias", bootstrap.host_alias);
    if (bootstrap.network) out["network"] = network_json(*bootstrap.network);
    put_list(out, "rlimits", bootstrap.rlimits, [](const Rlimit& limit) -> Value {
        return {{"resource", limit.resource}, {"soft", limit.soft}, {"hard", limit.hard}};
    });
    put_optional(out, "user", bootstrap.user);
    put_optional(out, "default_cwd", bootstrap.default_cwd);
    put_list(out, "default_env", bootstrap.default_env, env_var_json);
    out["security_profile"] =
        bootstrap.security_profile == SecurityProfile::kRestricted ? "restricted" : "default";
    if (bootstrap.handoff_init) out["handoff_init"] = handoff_json(*bootstrap.handoff_init);
    return out;
}

}  // namespace msb::contract
