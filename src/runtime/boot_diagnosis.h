// Why a machine ended before its agent was ready.
#pragma once

#include <filesystem>
#include <string>

#include "vmm/machine.h"

namespace msb::runtime {

// "VM enter: ..." with the engine's own words, or with what the agent or the kernel last said on the console.
std::string early_exit_message(const vmm::MachineExit& exit,
                               const std::filesystem::path& kernel_log);

}  // namespace msb::runtime
