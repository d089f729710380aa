// list, status, inspect (spec/cli.md section 6).
#include <microsandbox/sandbox.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/time.h"
#include "cli/commands/commands.h"
#include "cli/commands/config_view.h"
#include "cli/commands/targets.h"
#include "cli/style.h"

namespace msb::cli {

namespace {

using Json = nlohmann::json;  // sorted keys: what the contract asks for
using microsandbox::Sandbox;
using microsandbox::SandboxHandle;
using microsandbox::SandboxStatus;

constexpr std::size_t kImageWidth = 36;
constexpr std::size_t kCommandWidth = 40;
constexpr std::size_t kPortsWidth = 32;

std::int64_t nanoseconds(const microsandbox::Timestamp& time) {
    return time.time_since_epoch().count();
}

std::string human_time(const std::optional<microsandbox::Timestamp>& time) {
    return time ? local_time(nanoseconds(*time)) : "-";
}

Json json_time(const std::optional<microsandbox::Timestamp>& time) {
    return time ? Json(rfc3339_offset(nanoseconds(*time))) : Json();
}

// The guest chose some of these bytes (labels of images, damaged rows): never let them break the JSON.
void print_json(const Json& value) {
    write_out(value.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

std::string cut(const std::string& text, std::size_t width) {
    if (text_width(text) <= width) return text;
    std::string shorter;
    for (std::size_t i = 0, count = 0; i < text.size(); ++i) {
        if ((static_cast<unsigned char>(text[i]) & 0xc0) != 0x80 && ++count > width - 3) break;
        shorter += text[i];
    }
    return shorter + "...";
}

bool is_active(SandboxStatus status) {
    return status == SandboxStatus::kRunning || status == SandboxStatus::kDraining;
}

// What runs now, else what will run.
const std::string& effective_config(const SandboxHandle& handle) {
    return handle.active_config_json() ? *handle.active_config_json() : handle.config_json();
}

Json parsed(const std::string& text) {
    Json value = Json::parse(text, nullptr, false);
    return value.is_discarded() ? Json() : value;
}

std::string joined(const std::vector<std::string>& parts) {
    std::string text;
    for (const auto& part : parts)
        text += (text.empty() ? "" : ", ") + part;
    return text;
}

std::string shown_command(const ConfigView& view) {
    return view.command.empty() ? "-" : "\"" + view.command + "\"";
}

Json status_json(const SandboxHandle& handle) {
    const auto view = view_config(effective_config(handle));
    return {{"command", shown_command(view)},
            {"cpus", view.cpus},
            {"image", view.image},
            {"max_cpus", view.max_cpus},
            {"max_memory_mib", view.max_memory_mib},
            {"memory_mib", view.memory_mib},
            {"name", handle.name()},
            {"ports", view.ports},
            {"status", std::string(to_string(handle.status()))},
            {"thp", view.thp}};
}

std::vector<Cell> status_row(const SandboxHandle& handle) {
    const auto view = view_config(effective_config(handle));
    const std::string ports = joined(view.ports);
    return {{handle.name()},
            {printable(cut(view.image, kImageWidth))},
            {printable(cut(shown_command(view), kCommandWidth))},
            {std::to_string(view.cpus) + " / " + std::to_string(view.max_cpus)},
            {format_mib(view.memory_mib) + " / " + format_mib(view.max_memory_mib)},
            status_cell(to_string(handle.status())),
            {ports.empty() ? "-" : printable(cut(ports, kPortsWidth))}};
}

void print_status_table(const std::vector<SandboxHandle>& handles) {
    std::vector<std::vector<Cell>> rows;
    for (const auto& handle : handles)
        rows.push_back(status_row(handle));
    write_out(render_table({"NAME", "IMAGE", "COMMAND", "CPUS", "MEM", "STATUS", "PORTS"}, rows));
}

void print_names(const std::vector<SandboxHandle>& handles) {
    std::string text;
    for (const auto& handle : handles)
        text += handle.name() + "\n";
    write_out(text);
}

// A value that will change with the next start: "1 → 2 next start".
template <class T>
std::string pending(const T& active, const T& desired, std::string (*show)(T)) {
    if (active == desired) return show(desired);
    return show(active) + " → " + show(desired) + " next start";
}
std::string count_text(std::uint64_t count) {
    return std::to_string(count);
}
std::string same_text(std::string text) {
    return text;
}

Json pending_changes(const ConfigView& active, const ConfigView& desired) {
    Json changes = Json::array();
    const auto add = [&](const char* field, const auto& before, const auto& after) {
        if (before != after)
            changes.push_back({{"active", before},
                               {"desired", after},
                               {"effect", "requires restart"},
                               {"field", field}});
    };
    add("cpus", active.cpus, desired.cpus);
    add("max_cpus", active.max_cpus, desired.max_cpus);
    add("memory", active.memory_mib, desired.memory_mib);
    add("max_memory", active.max_memory_mib, desired.max_memory_mib);
    add("cpu_placement", active.cpu_placement, desired.cpu_placement);
    add("thp", active.thp, desired.thp);
    return changes;
}

std::string section(std::string_view title) {
    return "\n" + paint(title, Tone::kTitle) + "\n";
}

std::string inspect_text(const SandboxHandle& handle) {
    const auto view = view_config(handle.config_json());
    const auto active =
        handle.active_config_json() ? view_config(*handle.active_config_json()) : view;
    const Cell status = status_cell(to_string(handle.status()));
    std::string text =
        detail("Name", handle.name()) + detail("Status", paint(status.text, status.tone)) +
        detail("Created", human_time(handle.created_at())) +
        detail("Updated", human_time(handle.updated_at())) + detail("Image", printable(view.image));
    if (!view.root_disk.empty()) text += detail("Root Disk", printable(view.root_disk));

    text += section("Resources");
    text += indented_detail("CPUs", pending(active.cpus, view.cpus, count_text));
    text += indented_detail("Max CPUs", pending(active.max_cpus, view.max_cpus, count_text));
    text += indented_detail("CPU Placement",
                            pending(active.cpu_placement, view.cpu_placement, same_text));
    text += indented_detail("Memory", pending(active.memory_mib, view.memory_mib, format_mib));
    text += indented_detail("Max Memory",
                            pending(active.max_memory_mib, view.max_memory_mib, format_mib));
    text += indented_detail("THP", pending(active.thp, view.thp, same_text));
    text += detail("Security", view.security) + detail("Deployment Profile", view.deployment);
    if (view.workdir) text += detail("Workdir", printable(*view.workdir));
    if (view.shell) text += detail("Shell", printable(*view.shell));

    if (!view.env.empty()) text += section("Environment");
    for (const auto& entry : view.env)
        text += "  " + printable(entry) + "\n";
    if (!view.labels.empty()) text += section("Labels");
    for (const auto& label : view.labels)
        text += "  " + printable(label) + "\n";
    if (!view.mounts.empty()) text += section("Mounts");
    for (const auto& mount : view.mounts)
        text += "  " + pad_right(printable(mount.guest), 16) + paint("→", Tone::kDim) + " " +
                printable(mount.text) + "\n";
    return text;
}

}  // namespace

int list_command(const Matches& matches) {
    auto handles = Sandbox::list_all(label_filter(matches));
    const auto keep = [&](SandboxStatus status) {
        std::erase_if(handles,
                      [&](const SandboxHandle& handle) { return handle.status() != status; });
    };
    if (matches.has("running")) {
        keep(SandboxStatus::kRunning);
    } else if (matches.has("stopped")) {
        keep(SandboxStatus::kStopped);
    }

    if (matches.has("format")) {
        Json list = Json::array();
        for (const auto& handle : handles) {
            list.push_back({{"created_at", json_time(handle.created_at())},
                            {"image", view_config(handle.config_json()).image},
                            {"name", handle.name()},
                            {"status", std::string(to_string(handle.status()))}});
        }
        print_json(list);
        return 0;
    }
    if (matches.has("quiet")) {
        print_names(handles);
        return 0;
    }
    if (handles.empty()) {
        print_notice("No sandboxes found.");
        return 0;
    }
    std::vector<std::vector<Cell>> rows;
    for (const auto& handle : handles) {
        rows.push_back({{handle.name()},
                        {printable(view_config(handle.config_json()).image)},
                        status_cell(to_string(handle.status())),
                        {human_time(handle.created_at())}});
    }
    write_out(render_table({"NAME", "IMAGE", "STATUS", "CREATED"}, rows));
    return 0;
}

int status_command(const Matches& matches) {
    if (const auto name = matches.value("NAME")) {
        const auto handle = Sandbox::get(*name);
        if (matches.has("format")) {
            print_json(status_json(handle));
        } else if (matches.has("quiet")) {
            print_names({handle});
        } else {
            print_status_table({handle});
        }
        return 0;
    }
    auto handles = Sandbox::list_all(label_filter(matches));
    if (!matches.has("all"))
        std::erase_if(handles,
                      [](const SandboxHandle& handle) { return !is_active(handle.status()); });
    std::sort(handles.begin(), handles.end(),
              [](const auto& a, const auto& b) { return a.name() < b.name(); });

    if (matches.has("format")) {
        Json list = Json::array();
        for (const auto& handle : handles)
            list.push_back(status_json(handle));
        print_json(list);
    } else if (matches.has("quiet")) {
        print_names(handles);
    } else if (handles.empty()) {
        print_notice(matches.has("all") ? "No sandboxes found." : "No running sandboxes.");
    } else {
        print_status_table(handles);
    }
    return 0;
}

int inspect_command(const Matches& matches) {
    const auto handle = Sandbox::get(matches.value("NAME").value());
    if (!matches.has("format")) {
        write_out(inspect_text(handle));
        return 0;
    }
    Json changes = Json::array();
    Json active;
    if (handle.active_config_json()) {
        active = parsed(*handle.active_config_json());
        changes = pending_changes(view_config(*handle.active_config_json()),
                                  view_config(handle.config_json()));
    }
    print_json({{"active_config", active},
                {"config", parsed(handle.config_json())},
                {"created_at", json_time(handle.created_at())},
                {"name", handle.name()},
                {"pending_changes", changes},
                {"status", std::string(to_string(handle.status()))},
                {"updated_at", json_time(handle.updated_at())}});
    return 0;
}

}  // namespace msb::cli
