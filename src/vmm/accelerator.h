// Which accelerator runs guests on this host, found out by trying and remembered.
//
// A host can have a /dev/kvm on which no Linux guest runs (DESIGN.md section 4), so the probe boots
// our kernel under KVM with a program of a few instructions as init, and believes what it sees.
#pragma once

#include <chrono>
#include <filesystem>
#include <string>

#include "vmm/machine.h"

namespace msb::vmm {

// A probe that has not come to a verdict after this long is a "no".
inline constexpr std::chrono::milliseconds kAcceleratorProbeLimit{15000};

struct AcceleratorReport {
    Accelerator accelerator = Accelerator::kTcg;
    std::string reason;       // for people, one line
    bool forced = false;      // by MSB_ACCEL or the configuration: nothing was probed
    bool remembered = false;  // the verdict came from the file
    int probe_ms = 0;         // how long the probe took (when it ran, now or back then)
};

// The accelerator a machine with these options gets. Probes only when needed; concurrent callers
// with one verdict file wait for one probe. Never throws for a KVM that does not work, except:
// Error{kCustom} when KVM is demanded (MSB_ACCEL=kvm, or the option) and unusable, or MSB_ACCEL is
// none of kvm, tcg, auto.
AcceleratorReport choose_accelerator(const std::filesystem::path& kernel,
                                     const EngineOptions& options);

// For `msb doctor`: the same without the throw; a demand that cannot be met is in `reason`.
// `fresh` probes even when there is a verdict (and remembers the new one).
AcceleratorReport probe_report(const std::filesystem::path& kernel, const EngineOptions& options,
                               bool fresh = false);

// Forgets the verdict: the next machine probes again. Called when a KVM machine died of an
// internal error. (It is not turned into "TCG": a guest that can provoke such an error must not be
// able to move other sandboxes off hardware isolation.)
void forget_verdict(const std::filesystem::path& verdict_file) noexcept;

// "7.2.22" from the engine's --version; throws Error{kCustom} when it does not run or is older
// than kMinimumEngineVersion.
inline constexpr unsigned kMinimumEngineMajor = 7;
inline constexpr unsigned kMinimumEngineMinor = 2;
std::string engine_version(const std::filesystem::path& engine);

}  // namespace msb::vmm
