// The engine: a QEMU process and everything that talks to it.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "vmm/machine.h"

namespace msb::vmm {

// Starts `config`, which is valid, with the given accelerator. What start_machine() and the
// accelerator probe have in common.
struct EngineStart {
    std::filesystem::path engine;
    Accelerator accelerator = Accelerator::kTcg;
    std::string accelerator_reason;
    std::filesystem::path verdict_file;  // forgotten when KVM fails; may be empty
    std::vector<int> inherited_fds;
    std::function<void(std::string_view)> on_console;  // also gets every console byte; may be empty
};
std::unique_ptr<Machine> start_engine(MachineConfig config, EngineStart start);

}  // namespace msb::vmm
