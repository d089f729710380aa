// What a running engine has used of the host, from /proc.
#pragma once

#include <sys/types.h>

#include "vmm/machine.h"

namespace msb::vmm {

// Never throws; what cannot be read is absent. Vanishing threads are normal.
MachineUsage engine_usage(pid_t engine) noexcept;

}  // namespace msb::vmm
