// How a machine ended, from what was observed while it did.
#pragma once

#include <string>

#include "vmm/machine.h"

namespace msb::vmm {

struct ExitEvidence {
    bool kill_requested = false;  // by our caller, while the machine ran
    bool guest_ended = false;     // SHUTDOWN event the guest asked for, or the halt line
    bool host_signal = false;     // SHUTDOWN event for a signal the engine got
    bool internal_error = false;  // the accelerator gave up
    bool engine_started = false;  // the control channel greeted
    std::string violation;        // the control channel misbehaved
    std::string panic_line;       // from the console
    std::string engine_output;    // last lines of the engine's standard error
    int wait_status = 0;
};

MachineExit classify_exit(const ExitEvidence& evidence);

}  // namespace msb::vmm
