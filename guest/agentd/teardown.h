// Leaving every file system clean before the VM ends (spec/guest-agent.md section 15).
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace msb::agentd {

struct MountEntry {
    std::string source;
    std::string path;
    std::string type;
};

// The lines of /proc/self/mounts in file order, octal escapes in paths decoded; malformed lines are
// skipped.
std::vector<MountEntry> parse_mounts(std::string_view text);

// Whether a type holds data worth unmounting for.
bool holds_data(std::string_view type);

// The root and what lies on disks: made clean however long it takes. Anything else (mounts of
// containers inside the guest, say) only within the budget.
bool must_be_clean(const MountEntry& mount);

// sync, optionally kill every other process, unmount or remount read-only, sync. `upper_fs` (or -1)
// is a descriptor on the file system below an overlay root. Never throws.
void tear_down(int upper_fs, bool kill_processes);

// Ends the VM: with `reboot=t` a restart is a triple fault, which the engine turns into an exit.
// Without ACPI a power-off would only halt.
[[noreturn]] void reset_machine();

}  // namespace msb::agentd
