// The accelerator probe's remembered result.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "vmm/machine.h"

namespace msb::vmm {

// A verdict holds for one boot of the host, one engine and one kernel.
struct VerdictKey {
    std::string boot_id;
    std::string engine;  // "path size mtime_ns inode"
    std::string kernel;
    bool operator==(const VerdictKey&) const = default;
};
// Throws Error{kIo} when the engine or kernel cannot be looked at.
VerdictKey verdict_key(const std::filesystem::path& engine, const std::filesystem::path& kernel);

struct Verdict {
    Accelerator accelerator = Accelerator::kTcg;
    std::string reason;
    int probe_ms = 0;
};

// nullopt when the file is missing, damaged, or about something else. Never throws.
std::optional<Verdict> read_verdict(const std::filesystem::path& file,
                                    const VerdictKey& key) noexcept;
// Atomic. Throws Error{kIo}.
void write_verdict(const std::filesystem::path& file, const VerdictKey& key,
                   const Verdict& verdict);

}  // namespace msb::vmm
