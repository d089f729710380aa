#include "runtime/control.h"

#include <algorithm>
#include <limits>

#include "base/encoding.h"
#include "base/json.h"
#include "base/text.h"

namespace msb::runtime {
namespace {

using json::Value;

enum class Op { kCapabilities, kMemoryTarget, kMemoryState, kCpuTarget, kCpuState, kSecretsUpdate };

std::string reply(const Value& value) {
    return json::dump(value) + "\n";
}
std::string refuse(const std::string& reason) {
    return reply({{"ok", false}, {"error", reason}});
}

std::string memory_reply(ControlTarget& target) {
    const ControlMemory memory = target.memory();
    return reply({{"ok", true},
                  {"memory",
                   {{"boot_mib", memory.boot_mib},
                    {"target_mib", memory.target_mib},
                    {"current_mib", memory.current_mib},
                    {"max_mib", memory.max_mib}}}});
}

std::string cpu_reply(ControlTarget& target) {
    const ControlCpu cpu = target.cpu();
    return reply({{"ok", true},
                  {"cpu",
                   {{"possible", cpu.possible},
                    {"requested_online", cpu.requested_online},
                    {"actual_online", cpu.actual_online},
                    {"enforced", cpu.enforced}}}});
}

std::string handle_memory(Op op, const json::Reader& request, ControlTarget& target) {
    const auto total = op == Op::kMemoryTarget ? request.integer<std::uint64_t>("total_mib") : 0;
    if (!target.memory_resizable()) return refuse("this VM booted without memory hotplug capacity");
    if (op == Op::kMemoryTarget) target.set_memory(total);
    return memory_reply(target);
}

std::string handle_cpu(Op op, const json::Reader& request, ControlTarget& target) {
    const auto online = op == Op::kCpuTarget ? request.integer<std::uint32_t>("online") : 0;
    if (!target.cpu_resizable()) return refuse("this VM booted without CPU capacity");
    if (op == Op::kCpuTarget) target.set_cpus(online);
    return cpu_reply(target);
}

// The shape is checked as it will be once there are secrets, so that mistakes read the same.
void check_changes(const json::Reader& request) {
    for (const Value& item : json::expect_array(request.raw("changes"))) {
        const json::Reader change(item, "SecretChange");
        const std::size_t kind =
            change.variant("change", {"rotate", "remove", "set_allowed_hosts"});
        (void)change.string("name");
        if (kind == 0) (void)change.string("value");
        if (kind == 2) (void)change.string_list("hosts");
    }
}

std::string handle(const json::Reader& request, ControlTarget& target) {
    const auto op =
        static_cast<Op>(request.variant("op", {"capabilities", "memory_target", "memory_state",
                                               "cpu_target", "cpu_state", "secrets_update"}));
    switch (op) {
        case Op::kCapabilities:
            return reply({{"ok", true},
                          {"capabilities",
                           {{"cpu_resize", target.cpu_resizable()},
                            {"memory_resize", target.memory_resizable()},
                            {"secrets_update", false}}}});
        case Op::kMemoryTarget:
        case Op::kMemoryState:
            return handle_memory(op, request, target);
        case Op::kCpuTarget:
        case Op::kCpuState:
            return handle_cpu(op, request, target);
        case Op::kSecretsUpdate:
            break;
    }
    check_changes(request);
    return refuse("live secret reconfiguration is not available for this sandbox");
}

}  // namespace

std::optional<std::string> handle_control_line(std::string_view line, ControlTarget& target) {
    if (!is_utf8(line)) return std::nullopt;
    try {
        const Value value = json::parse(trim(line));
        return handle(json::Reader(value, "ControlRequest"), target);
    } catch (const json::ParseError& error) {
        return refuse(std::string("invalid control request: ") + error.what());
    }
}

}  // namespace msb::runtime
