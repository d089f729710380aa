// One sandbox from its checked inputs to its end: the start sequence, the event loop and the exit observer
// (spec/sandbox-process.md sections 6, 9 and 10).
#pragma once

#include <memory>

#include "runtime/inputs.h"

namespace msb::runtime {

class RuntimeLog;

struct RunResult {
    int status = 0;  // exit status of the process
    bool threads_left =
        false;  // a background thread still runs: end the process without static destruction
};

// Runs the sandbox to its end. A failure before the machine runs is reported to standard error and boot-error.json and
// has status 1.
RunResult run_sandbox(Inputs inputs, const RuntimeLog& log);

}  // namespace msb::runtime
