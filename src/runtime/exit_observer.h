// What is done, in a fixed order, once a machine has ended (spec/sandbox-process.md section 10).
#pragma once

#include <functional>
#include <string>
#include <vector>

namespace msb::runtime {

// One step; it reports its own failure by throwing. After a failed step with `gate` the remaining steps up to
// `after_gate` are skipped: rows stay active then, so that the next reader reconciles them.
struct ExitSteps {
    std::function<void()> release_writeback;
    std::function<void()> release_cpus;
    std::function<void()> remove_endpoints;  // gate
    std::function<void()> finish_rows;       // skipped when the gate failed
    std::function<void()> clean_ephemeral;   // skipped when the gate failed
    std::function<void()> mark_stopped;
    std::function<void()> retire_metrics;
};

void run_exit_steps(const ExitSteps& steps);

}  // namespace msb::runtime
