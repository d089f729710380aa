#include "cli/commands/config_view.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "cli/style.h"

namespace msb::cli {

namespace {

using Json = nlohmann::json;

const Json& member(const Json& object, const char* key) {
    static const Json null;
    if (!object.is_object()) return null;
    const auto found = object.find(key);
    return found == object.end() ? null : *found;
}

std::optional<std::string> text_of(const Json& object, const char* key) {
    const Json& value = member(object, key);
    if (!value.is_string()) return std::nullopt;
    return value.get<std::string>();
}

std::uint64_t number_of(const Json& object, const char* key, std::uint64_t fallback) {
    const Json& value = member(object, key);
    return value.is_number_unsigned() ? value.get<std::uint64_t>() : fallback;
}

bool flag_of(const Json& object, const char* key) {
    const Json& value = member(object, key);
    return value.is_boolean() && value.get<bool>();
}

std::string lower(std::string text) {
    std::transform(text.begin(), text.end(), text.begin(),
                   [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return text;
}

std::string root_disk_text(const Json& disk) {
    if (!disk.is_object()) return "4096 MiB (managed, ext4)";
    const std::string kind = text_of(disk, "kind").value_or("managed");
    const Json& size = member(disk, "size_mib");
    const std::string size_text =
        size.is_number_unsigned() ? std::to_string(size.get<std::uint64_t>()) + " MiB" : "default";
    if (kind == "disk-image") {
        std::string text = text_of(disk, "path").value_or("-") + " (disk-image, " +
                           lower(text_of(disk, "format").value_or("raw"));
        if (const auto fstype = text_of(disk, "fstype")) text += ", " + *fstype;
        return text + ")";
    }
    if (kind == "flat")
        return size_text + " (flat, " + text_of(disk, "fstype").value_or("ext4") +
               ", clone=" + text_of(disk, "clone").value_or("auto") + ")";
    if (kind == "tmpfs") return size_text + " (tmpfs)";
    return size_text + " (" + kind + ", ext4)";
}

void view_image(ConfigView& view, const Json& image) {
    if (const Json& oci = member(image, "Oci"); oci.is_object()) {
        view.oci = true;
        view.image = text_of(oci, "reference").value_or("-");
        view.root_disk = root_disk_text(member(oci, "root_disk"));
    }
    if (const Json& disk = member(image, "DiskImage"); disk.is_object())
        view.image = text_of(disk, "path").value_or("-");
    if (const Json& bind = member(image, "Bind"); bind.is_object())
        view.image = text_of(bind, "path").value_or("-");
}

void view_resources(ConfigView& view, const Json& resources) {
    view.cpus = number_of(resources, "cpus", 1);
    view.max_cpus = number_of(resources, "max_cpus", view.cpus);
    view.memory_mib = number_of(resources, "memory_mib", 512);
    view.max_memory_mib = number_of(resources, "max_memory_mib", view.memory_mib);
    view.cpu_placement = text_of(resources, "cpu_placement").value_or("inherit");
    view.thp = text_of(resources, "thp").value_or("madvise");
}

void view_runtime(ConfigView& view, const Json& runtime) {
    view.workdir = text_of(runtime, "workdir");
    view.shell = text_of(runtime, "shell");
    for (const char* key : {"entrypoint", "cmd"}) {
        const Json& words = member(runtime, key);
        if (!words.is_array()) continue;
        for (const Json& word : words)
            if (word.is_string())
                view.command += (view.command.empty() ? "" : " ") + word.get<std::string>();
    }
}

std::string mount_options(const Json& mount) {
    const Json& options = member(mount, "options");
    std::string text = flag_of(options, "readonly") ? "ro" : "rw";
    for (const char* key : {"noexec", "nosuid", "nodev"})
        if (flag_of(options, key)) text += "," + std::string(key);
    std::string shown = "(" + text + ")";
    std::string policies;
    const auto policy = [&](const std::string& word) {
        policies += (policies.empty() ? "" : ",") + word;
    };
    if (const auto value = text_of(mount, "stat_virtualization"); value && *value != "strict")
        policy("stat-virt=" + *value);
    if (const auto value = text_of(mount, "host_permissions"); value && *value != "private")
        policy("host-perms=" + *value);
    if (flag_of(mount, "follow_root_symlinks")) policy("follow-root-symlinks");
    if (!policies.empty()) shown += " [" + policies + "]";
    const Json& quota = member(mount, "quota_mib");
    if (quota.is_number_unsigned())
        shown += " [quota=" + std::to_string(quota.get<std::uint64_t>()) + "MiB]";
    return shown;
}

MountView view_mount(const Json& mount) {
    const std::string type = text_of(mount, "type").value_or("");
    MountView view{text_of(mount, "guest").value_or("-"), ""};
    if (type == "Named") {
        view.text = "volume:" + text_of(mount, "name").value_or("-") + " ";
    } else if (type == "Tmpfs") {
        view.text = "tmpfs ";
        const Json& size = member(mount, "size_mib");
        if (size.is_number_unsigned())
            view.text += "(" + std::to_string(size.get<std::uint64_t>()) + " MiB) ";
    } else if (type == "DiskImage") {
        view.text = "disk:" + text_of(mount, "host").value_or("-") + " (" +
                    lower(text_of(mount, "format").value_or("raw")) + ") [" +
                    text_of(mount, "fstype").value_or("auto") + "] ";
    } else {
        view.text = text_of(mount, "host").value_or("-") + " ";
    }
    view.text += mount_options(mount);
    return view;
}

void view_collections(ConfigView& view, const Json& config) {
    for (const Json& entry : member(config, "env")) {
        if (entry.is_array() && entry.size() == 2 && entry[0].is_string() && entry[1].is_string()) {
            view.env.push_back(entry[0].get<std::string>() + "=" + entry[1].get<std::string>());
        } else if (entry.is_object()) {
            view.env.push_back(text_of(entry, "key").value_or("") + "=" +
                               text_of(entry, "value").value_or(""));
        }
    }
    const Json& labels = member(config, "labels");
    if (labels.is_object())
        for (const auto& [key, value] : labels.items())
            view.labels.push_back(key + "=" + (value.is_string() ? value.get<std::string>() : ""));
    for (const Json& mount : member(config, "mounts"))
        view.mounts.push_back(view_mount(mount));
    for (const Json& port : member(member(config, "network"), "ports")) {
        std::string bind = text_of(port, "host_bind").value_or("127.0.0.1");
        if (bind.find(':') != std::string::npos) bind = "[" + bind + "]";
        view.ports.push_back(bind + ":" + std::to_string(number_of(port, "host_port", 0)) + "->" +
                             std::to_string(number_of(port, "guest_port", 0)) + "/" +
                             text_of(port, "protocol").value_or("tcp"));
    }
}

}  // namespace

ConfigView view_config(const std::string& json) {
    ConfigView view;
    const Json config = Json::parse(json, nullptr, false);
    if (!config.is_object()) return view;
    view_image(view, member(config, "image"));
    view_resources(view, member(config, "resources"));
    view_runtime(view, member(config, "runtime"));
    view.security = text_of(config, "security_profile").value_or("default");
    view.deployment = text_of(config, "deployment_profile").value_or("single_tenant");
    std::replace(view.deployment.begin(), view.deployment.end(), '_', '-');
    view_collections(view, config);
    return view;
}

}  // namespace msb::cli
