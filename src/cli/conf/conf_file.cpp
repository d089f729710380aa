#include "cli/conf/conf_file.h"

#include <algorithm>
#include <cstdlib>

#include "base/encoding.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/text.h"
#include "cli/conf/conf_reader.h"

namespace msb::cli {

namespace {

namespace fs = std::filesystem;
using microsandbox::Patch;

struct ScopeInfo {
    std::string_view flag;
    std::string_view kind;     // in messages
    std::string_view wrapper;  // the key a root file has around this scope's content; "" for none
};
constexpr ScopeInfo kScopes[] = {
    {"conf", "sandbox configuration", ""},       {"net-conf", "network config", "network"},
    {"resource-conf", "resource config", ""},    {"runtime-conf", "runtime config", ""},
    {"fs-conf", "filesystem config", ""},        {"secret-conf", "secret config", "secrets"},
    {"script-conf", "script config", "scripts"},
};
const ScopeInfo& info(ConfScope scope) {
    return kScopes[static_cast<std::size_t>(scope)];
}

constexpr std::string_view kProjectOnly[] = {"sandboxes",  "layers", "volumes",
                                             "depends_on", "name",   "description"};

std::string shown(std::string_view word) {
    return "`" + std::string(word) + "`";
}

// --- Resources ------------------------------------------------------------------------------------------------------

RlimitValue read_rlimit(const YamlNode& node) {
    const ConfMap map(node, "RlimitInput", {"resource", "soft", "hard"});
    RlimitValue limit;
    const std::string resource = map.string("resource");
    limit.soft = conf_integer<std::uint64_t>(map.require("soft"), "u64");
    const YamlNode* hard = map.find("hard");
    limit.hard = hard == nullptr ? limit.soft : conf_integer<std::uint64_t>(*hard, "u64");
    limit.resource = rlimit_resource(resource);
    return limit;
}

std::uint32_t read_size(const std::string& text, std::string_view field) {
    try {
        return parse_size_mib(text);
    } catch (const Error& error) {
        fail_value(std::string(field) + ": " + error.detail());
    }
}

void read_resources(const ConfMap& map, SandboxConf& conf) {
    if (const auto* cpus = map.find("cpus")) conf.cpus = conf_integer<std::uint8_t>(*cpus, "u8");
    if (auto memory = map.optional_string("memory")) conf.memory_mib = read_size(*memory, "memory");
    if (auto text = map.optional_string("max_duration"))
        conf.max_duration_secs = parse_seconds(*text);
    if (auto text = map.optional_string("idle_timeout"))
        conf.idle_timeout_secs = parse_seconds(*text);
    if (const auto* list = map.find("rlimits")) {
        conf.rlimits.emplace();
        for (const YamlNode& item : conf_list(*list))
            conf.rlimits->push_back(read_rlimit(item));
    }
}

// --- Runtime --------------------------------------------------------------------------------------------------------

void read_runtime(const ConfMap& map, SandboxConf& conf) {
    conf.workdir = map.optional_string("workdir");
    conf.shell = map.optional_string("shell");
    conf.user = map.optional_string("user");
    conf.hostname = map.optional_string("hostname");
    if (const auto* word = map.find("security"))
        conf.security = conf_word(*word, {"default", "restricted"});
    if (const auto* list = map.find("entrypoint")) conf.entrypoint = conf_strings(*list);
    if (const auto* list = map.find("cmd")) conf.cmd = conf_strings(*list);
    if (const auto* entries = map.find("env")) conf.env = conf_string_map(*entries);
    if (const auto* entries = map.find("labels")) conf.labels = conf_string_map(*entries);
    if (const auto* node = map.find("init")) {
        const ConfMap init(*node, "InitInput", {"cmd", "args", "env"});
        conf.init.emplace();
        conf.init->cmd = init.optional_string("cmd");
        if (const auto* list = init.find("args")) conf.init->args = conf_strings(*list);
        if (const auto* entries = init.find("env")) conf.init->env = conf_string_map(*entries);
    }
}

// --- Files ----------------------------------------------------------------------------------------------------------

// Host paths in a file are relative to it.
std::string from_file(const fs::path& directory, const std::string& path) {
    return path.starts_with('/') ? path : directory.string() + "/" + path;
}

// SOURCE:/guest[:options], always a host path.
MountValue read_mount_text(const std::string& text, const fs::path& directory) {
    const std::size_t colon = text.find(':');
    if (colon == std::string::npos || text.starts_with('/')) return parse_volume(text);
    return parse_volume(from_file(directory, text.substr(0, colon)) + text.substr(colon));
}

MountValue read_mount_map(const YamlNode& node, const fs::path& directory) {
    const ConfMap map(
        node, "MountObject",
        {"target", "bind", "named", "tmpfs", "disk", "create", "format", "fstype", "readonly",
         "noexec", "nosuid", "nodev", "stat_virtualization", "host_permissions", "uid", "gid"});
    MountValue mount;
    if (map.has("bind") + map.has("named") + map.has("tmpfs") + map.has("disk") != 1)
        fail_value("mount object must contain exactly one of `bind`, `named`, `tmpfs`, or `disk`");
    if (!map.has("target")) fail_value("mount.target is required");
    mount.guest = map.string("target");
    if (!mount.guest.starts_with('/'))
        fail_value("mount.target must be an absolute guest path, got " + msb::quoted(mount.guest));
    if (map.has("create") && !map.has("named"))
        fail_value("mount.create is only valid for a named mount");
    if ((map.has("format") || map.has("fstype")) && !map.has("disk"))
        fail_value("mount.format and mount.fstype are only valid for a disk mount");
    if (map.has("uid") != map.has("gid"))
        fail_value("mount.uid and mount.gid must be specified together");
    if (const auto* word = map.find("create"))
        (void)conf_word(*word, {"existing", "create", "ensure-exists"});
    if (auto path = map.optional_string("bind")) {
        mount.source = from_file(directory, *path);
    } else if (auto name = map.optional_string("named")) {
        mount.kind = MountKind::kNamed;
        mount.source = *name;
    } else if (auto disk = map.optional_string("disk")) {
        mount.kind = MountKind::kDisk;
        mount.source = from_file(directory, *disk);
        if (const auto* word = map.find("format"))
            mount.format = conf_word(*word, {"qcow2", "raw", "vmdk"});
        mount.fstype = map.optional_string("fstype");
    } else {
        mount.kind = MountKind::kTmpfs;
        const ConfMap tmpfs(map.require("tmpfs"), "TmpfsInput", {"size"});
        if (auto size = tmpfs.optional_string("size")) mount.size_mib = read_size(*size, "size");
    }
    mount.readonly = map.flag("readonly");
    mount.noexec = map.flag("noexec");
    mount.nosuid = map.flag("nosuid");
    mount.nodev = map.flag("nodev");
    if (const auto* word = map.find("stat_virtualization"))
        mount.stat_virt = conf_word(*word, {"strict", "relaxed", "off"});
    if (const auto* word = map.find("host_permissions"))
        mount.host_perms = conf_word(*word, {"private", "mirror"});
    if (const auto* id = map.find("uid")) mount.uid = conf_integer<std::uint32_t>(*id, "u32");
    if (const auto* id = map.find("gid")) mount.gid = conf_integer<std::uint32_t>(*id, "u32");
    return mount;
}

MountValue read_mount(const YamlNode& node, const fs::path& directory) {
    try {
        if (node.kind == YamlNode::Kind::kString)
            return read_mount_text(conf_string(node), directory);
        return read_mount_map(node, directory);
    } catch (const ConfShapeError&) {
        // All upstream says about a shape that fits neither form.
        throw ConfShapeError{"data did not match any variant of untagged enum MountInput"};
    }
}

std::optional<std::uint32_t> read_mode(const ConfMap& map) {
    const auto text = map.optional_string("mode");
    if (!text) return std::nullopt;
    if (text->size() != 4 || text->find_first_not_of("01234567") != std::string::npos)
        fail_value("mode must be a quoted four-digit octal string such as \"0644\"");
    return static_cast<std::uint32_t>(std::stoul(*text, nullptr, 8));
}

Patch read_patch(const YamlNode& node, const fs::path& directory) {
    static constexpr std::string_view kOperations[] = {"text",    "file",  "copy_file", "copy_dir",
                                                       "symlink", "mkdir", "remove",    "append"};
    if (node.kind != YamlNode::Kind::kMap) wrong_type(node, "string or map");
    if (node.entries.size() != 1)
        throw ConfShapeError{"invalid value: map, expected map with a single key"};
    const auto& [name, body] = node.entries.front();
    if (name == "text") {
        const ConfMap map(body, "TextPatch", {"path", "content", "mode", "replace"});
        return microsandbox::PatchText{map.string("path"), map.string("content"), read_mode(map),
                                       map.flag("replace")};
    }
    if (name == "file") {
        const ConfMap map(body, "FilePatch", {"path", "content_base64", "mode", "replace"});
        auto content = base64_decode(map.string("content_base64"));
        if (!content) fail_value("patch.file.content_base64: not valid base64");
        return microsandbox::PatchFile{map.string("path"), std::move(*content), read_mode(map),
                                       map.flag("replace")};
    }
    if (name == "copy_file") {
        const ConfMap map(body, "CopyFilePatch", {"src", "dst", "mode", "replace"});
        return microsandbox::PatchCopyFile{from_file(directory, map.string("src")),
                                           map.string("dst"), read_mode(map), map.flag("replace")};
    }
    if (name == "copy_dir") {
        const ConfMap map(body, "CopyDirPatch", {"src", "dst", "replace"});
        return microsandbox::PatchCopyDir{from_file(directory, map.string("src")),
                                          map.string("dst"), map.flag("replace")};
    }
    if (name == "symlink") {
        const ConfMap map(body, "SymlinkPatch", {"target", "link", "replace"});
        return microsandbox::PatchSymlink{map.string("target"), map.string("link"),
                                          map.flag("replace")};
    }
    if (name == "mkdir") {
        const ConfMap map(body, "MkdirPatch", {"path", "mode"});
        return microsandbox::PatchMkdir{map.string("path"), read_mode(map)};
    }
    if (name == "remove") {
        const ConfMap map(body, "RemovePatch", {"path"});
        return microsandbox::PatchRemove{map.string("path")};
    }
    if (name == "append") {
        const ConfMap map(body, "AppendPatch", {"path", "content"});
        return microsandbox::PatchAppend{map.string("path"), map.string("content")};
    }
    throw ConfShapeError{"unknown variant `" + name + "`, expected " + alternatives(kOperations)};
}

std::string read_text(const fs::path& path, std::string_view kind) {
    try {
        return read_file(path, kMaxYamlBytes + 1);
    } catch (const Error& error) {
        fail_value("failed to read " + std::string(kind) + " " + path.string() + ": " +
                   error.detail());
    }
}

// Runs `read` and words what it finds wrong with the file.
template <class Read>
void with_shape_errors(const fs::path& path, std::string_view kind, const Read& read) {
    try {
        read();
    } catch (const ConfShapeError& error) {
        fail_value("invalid " + std::string(kind) + " " + path.string() + ": " + error.text);
    }
}

void read_patch_file(const fs::path& path, std::vector<Patch>& patches) {
    constexpr std::string_view kKind = "rootfs patch file";
    const YamlNode document = parse_yaml(read_text(path, kKind), path.string(), kKind);
    with_shape_errors(path, kKind, [&] {
        const ConfMap map(document, "PatchFileInput", {"patches"});
        for (const YamlNode& item : conf_list(map.require("patches")))
            patches.push_back(read_patch(item, path.parent_path()));
    });
}

void read_files(const ConfMap& map, const fs::path& directory, SandboxConf& conf) {
    if (const auto* list = map.find("mounts")) {
        conf.mounts.emplace();
        for (const YamlNode& item : conf_list(*list))
            conf.mounts->push_back(read_mount(item, directory));
    }
    if (!map.has("patch_files") && !map.has("patches")) return;
    conf.patches.emplace();
    if (const auto* list = map.find("patch_files"))
        for (const std::string& file : conf_strings(*list))
            read_patch_file(from_file(directory, file), *conf.patches);
    if (const auto* list = map.find("patches"))
        for (const YamlNode& item : conf_list(*list))
            conf.patches->push_back(read_patch(item, directory));
}

// --- Network, secrets, scripts: shapes are checked; of the network only "none" and "public" have their feature yet ---------

void want_later(SandboxConf& conf, const std::string& what) {
    if (!conf.later) conf.later = what;
}

void read_preset(const std::string& preset, SandboxConf& conf) {
    conf.network_off = preset == "none";
    if (preset == "open") want_later(conf, "network policy open");
}

void read_network(const ConfMap& map, SandboxConf& conf) {
    if (const auto* word = map.find("policy"))
        read_preset(conf_word(*word, {"none", "public", "open"}), conf);
    if (const auto* dns = map.find("dns")) {
        const ConfMap fields(*dns, "DnsInput",
                             {"rebind_protection", "nameservers", "query_timeout"});
        (void)fields.flag("rebind_protection");
        if (const auto* list = fields.find("nameservers")) (void)conf_strings(*list);
        (void)fields.optional_string("query_timeout");
    }
    if (const auto* tls = map.find("tls")) {
        const ConfMap fields(*tls, "TlsInput",
                             {"enabled", "bypass", "verify_upstream", "block_quic"});
        for (const auto* name : {"enabled", "verify_upstream", "block_quic"})
            (void)fields.flag(name);
        if (const auto* list = fields.find("bypass")) (void)conf_strings(*list);
    }
    for (const auto* name : {"allow", "deny", "ports"})
        if (const auto* list = map.find(name)) (void)conf_strings(*list);
    for (const auto* name : {"strict", "trust_host_cas"})
        (void)map.flag(name);
    if (const auto* count = map.find("max_connections"))
        (void)conf_integer<std::uint64_t>(*count, "usize");
    for (const auto* name :
         {"allow", "deny", "ports", "dns", "tls", "strict", "trust_host_cas", "max_connections"})
        if (map.has(name)) want_later(conf, "network." + std::string(name));
}

ConfMap network_map(const YamlNode& node) {
    return {node,
            "NetworkConfigInput",
            {"policy", "allow", "deny", "ports", "dns", "tls", "strict", "trust_host_cas",
             "max_connections"}};
}

void read_network_field(const YamlNode& node, SandboxConf& conf) {
    try {
        if (node.kind == YamlNode::Kind::kString)
            return read_preset(conf_word(node, {"none", "public", "open"}), conf);
        read_network(network_map(node), conf);
    } catch (const ConfShapeError&) {
        throw ConfShapeError{"data did not match any variant of untagged enum NetworkInput"};
    }
}

void read_secrets(const YamlNode& node, SandboxConf& conf) {
    if (node.kind != YamlNode::Kind::kMap) wrong_type(node, "a map");
    for (const auto& [name, secret] : node.entries) {
        const ConfMap map(secret, "SecretInput",
                          {"value", "allow", "inject", "require_tls_identity"});
        if (const auto* list = map.find("allow")) (void)conf_strings(*list);
        if (const auto* list = map.find("inject"))
            for (const YamlNode& place : conf_list(*list))
                (void)conf_word(place, {"headers", "basic_auth", "query_params"});
        (void)map.flag("require_tls_identity");
        want_later(conf, "secrets");
    }
}

void read_scripts(const YamlNode& node, SandboxConf& conf) {
    conf.scripts = conf_string_map(node);
    for (const auto& [name, body] : conf.scripts)
        if (name.empty() || name == "." || name == ".." || name.find('/') != std::string::npos ||
            name.find('\0') != std::string::npos)
            fail_value("script name " + msb::quoted(name) + " must be a single non-empty filename");
}

// --- Root -----------------------------------------------------------------------------------------------------------

ConfImage read_image_map(const YamlNode& node, const fs::path& directory) {
    const ConfMap map(node, "ImageObject",
                      {"oci", "snapshot", "disk", "bind", "layer", "upper_size", "fstype"});
    if (map.has("layer"))
        fail_value(
            "`image.layer` is project-only and cannot be used in sandbox configuration; use a "
            "published OCI reference");
    if (map.has("oci") + map.has("snapshot") + map.has("disk") + map.has("bind") != 1)
        fail_value("image object must contain exactly one of `oci`, `snapshot`, `disk`, or `bind`");
    if (map.has("fstype") && !map.has("disk"))
        fail_value("image.fstype is only valid with image.disk");
    if (map.has("upper_size") && !map.has("oci"))
        fail_value("image.upper_size is only valid with image.oci");
    ConfImage image;
    if (auto text = map.optional_string("oci")) {
        image.kind = ConfImage::Kind::kOci;
        image.text = *text;
        if (auto size = map.optional_string("upper_size"))
            image.upper_size_mib = read_size(*size, "upper_size");
    } else if (auto path = map.optional_string("disk")) {
        image.kind = ConfImage::Kind::kDisk;
        image.text = from_file(directory, *path);
        image.fstype = map.optional_string("fstype");
    } else if (auto root = map.optional_string("bind")) {
        image.kind = ConfImage::Kind::kBind;
        image.text = from_file(directory, *root);
    } else {
        image.kind = ConfImage::Kind::kSnapshot;
        image.text = map.string("snapshot");
    }
    return image;
}

ConfImage read_image(const YamlNode& node, const fs::path& directory) {
    if (node.kind == YamlNode::Kind::kString) {
        ConfImage image;
        image.text = conf_string(node);
        if (is_path(image.text)) image.text = from_file(directory, image.text);
        return image;
    }
    try {
        return read_image_map(node, directory);
    } catch (const ConfShapeError&) {
        throw ConfShapeError{"data did not match any variant of untagged enum ImageInput"};
    }
}

ConfRegistry read_registry(const YamlNode& node) {
    const ConfMap map(node, "RegistryInput", {"username", "password_env"});
    const auto username = map.optional_string("username");
    const auto variable = map.optional_string("password_env");
    if (!username || !variable)
        fail_value("registry.username and registry.password_env must be specified together");
    const char* password = std::getenv(variable->c_str());
    if (password == nullptr)
        fail_value("registry password environment variable " + msb::quoted(*variable) +
                   " is not set");
    return {*username, password};
}

void read_root(const YamlNode& document, const fs::path& path, SandboxConf& conf) {
    if (document.kind == YamlNode::Kind::kMap)
        for (const auto& [key, value] : document.entries)
            if (std::ranges::find(kProjectOnly, key) != std::end(kProjectOnly))
                fail_value(path.string() + ": " + shown(key) +
                           " is project-only and is not valid in sandbox configuration; use `msb "
                           "compose --conf " +
                           path.string() + "` for a Composefile");
    const ConfMap map(
        document, "SandboxConfigInput",
        {"image",   "pull_policy", "registry", "cpus", "memory",   "max_duration", "idle_timeout",
         "rlimits", "workdir",     "shell",    "user", "hostname", "security",     "entrypoint",
         "cmd",     "env",         "labels",   "init", "mounts",   "patch_files",  "patches",
         "network", "secrets",     "scripts",  "ports"});
    const fs::path directory = fs::absolute(path).parent_path();
    if (const auto* node = map.find("image")) conf.image = read_image(*node, directory);
    if (const auto* node = map.find("pull_policy")) {
        const std::string word = conf_word(*node, {"missing", "always", "never"});
        conf.pull_policy = word == "always"  ? microsandbox::PullPolicy::kAlways
                           : word == "never" ? microsandbox::PullPolicy::kNever
                                             : microsandbox::PullPolicy::kIfMissing;
    }
    if (const auto* node = map.find("registry")) conf.registry = read_registry(*node);
    read_resources(map, conf);
    read_runtime(map, conf);
    read_files(map, directory, conf);
    if (const auto* node = map.find("network")) read_network_field(*node, conf);
    if (const auto* node = map.find("secrets")) read_secrets(*node, conf);
    if (const auto* node = map.find("scripts")) read_scripts(*node, conf);
    if (const auto* list = map.find("ports")) {
        (void)conf_strings(*list);
        want_later(conf, "ports");
    }
}

void refuse_wrapper(ConfScope scope, const YamlNode& document, const fs::path& path) {
    const ScopeInfo& scoped = info(scope);
    if (scoped.wrapper.empty() || document.kind != YamlNode::Kind::kMap) return;
    for (const auto& [key, value] : document.entries)
        if (key == scoped.wrapper && value.kind == YamlNode::Kind::kMap)
            fail_value(path.string() + ": --" + std::string(scoped.flag) +
                       " expects the contents without a `" + std::string(scoped.wrapper) +
                       ":` wrapper; use --conf for a root-shaped file");
}

void read_scope(ConfScope scope, const YamlNode& document, const fs::path& path,
                SandboxConf& conf) {
    switch (scope) {
        case ConfScope::kRoot:
            return read_root(document, path, conf);
        case ConfScope::kNetwork:
            return read_network(network_map(document), conf);
        case ConfScope::kResources:
            return read_resources(
                ConfMap(document, "ResourceConfigInput",
                        {"cpus", "memory", "max_duration", "idle_timeout", "rlimits"}),
                conf);
        case ConfScope::kRuntime:
            return read_runtime(ConfMap(document, "RuntimeConfigInput",
                                        {"workdir", "shell", "user", "hostname", "security",
                                         "entrypoint", "cmd", "env", "labels", "init"}),
                                conf);
        case ConfScope::kFiles:
            return read_files(
                ConfMap(document, "FilesystemConfigInput", {"mounts", "patch_files", "patches"}),
                fs::absolute(path).parent_path(), conf);
        case ConfScope::kSecrets:
            return read_secrets(document, conf);
        case ConfScope::kScripts:
            return read_scripts(document, conf);
    }
}

template <class T>
void take(std::optional<T>& base, std::optional<T>& over) {
    if (over) base = std::move(over);
}

void take_keys(std::map<std::string, std::string>& base, std::map<std::string, std::string>& over) {
    over.merge(base);  // keys of `over` win
    base = std::move(over);
}

}  // namespace

std::optional<ConfScope> conf_scope(std::string_view flag) {
    for (std::size_t i = 0; i < std::size(kScopes); ++i)
        if (kScopes[i].flag == flag) return static_cast<ConfScope>(i);
    return std::nullopt;
}

SandboxConf read_conf(ConfScope scope, const fs::path& path) {
    return parse_conf(scope, read_text(path, info(scope).kind), path);
}

SandboxConf parse_conf(ConfScope scope, std::string_view text, const fs::path& path) {
    const std::string_view kind = info(scope).kind;
    const YamlNode document = parse_yaml(text, path.string(), kind);
    SandboxConf conf;
    with_shape_errors(path, kind, [&] {
        refuse_wrapper(scope, document, path);
        read_scope(scope, document, path, conf);
    });
    return conf;
}

void merge_conf(SandboxConf& base, SandboxConf over) {
    take(base.image, over.image);
    take(base.pull_policy, over.pull_policy);
    take(base.registry, over.registry);
    take(base.cpus, over.cpus);
    take(base.memory_mib, over.memory_mib);
    take(base.max_duration_secs, over.max_duration_secs);
    take(base.idle_timeout_secs, over.idle_timeout_secs);
    take(base.rlimits, over.rlimits);
    take(base.workdir, over.workdir);
    take(base.shell, over.shell);
    take(base.user, over.user);
    take(base.hostname, over.hostname);
    take(base.security, over.security);
    take(base.entrypoint, over.entrypoint);
    take(base.cmd, over.cmd);
    take_keys(base.env, over.env);
    take_keys(base.labels, over.labels);
    if (over.init && base.init) {
        take(base.init->cmd, over.init->cmd);
        take(base.init->args, over.init->args);
        take(base.init->env, over.init->env);
    } else {
        take(base.init, over.init);
    }
    take(base.mounts, over.mounts);
    take(base.patches, over.patches);
    take_keys(base.scripts, over.scripts);
    take(base.network_off, over.network_off);
    take(base.later, over.later);
}

void check_conf(const SandboxConf& conf) {
    if (conf.init) {
        if (!conf.init->cmd) fail_value("init.cmd is required when init configuration is present");
        if (*conf.init->cmd != "auto" && !conf.init->cmd->starts_with('/'))
            fail_value("init.cmd must be an absolute guest path or `auto`, got " +
                       msb::quoted(*conf.init->cmd));
    }
    if (conf.shell) check_shell(*conf.shell);
    if (conf.later)
        fail_value("`" + *conf.later +
                   "` in a configuration file is not supported by this build yet");
}

}  // namespace msb::cli
