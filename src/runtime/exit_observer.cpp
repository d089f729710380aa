#include "runtime/exit_observer.h"

#include <exception>

#include "base/log.h"

namespace msb::runtime {
namespace {

bool attempt(const char* what, const std::function<void()>& step) {
    if (!step) return true;
    try {
        step();
        return true;
    } catch (const std::exception& error) {
        log(LogLevel::kError, "msb::exit", "{}: {}", what, error.what());
        return false;
    }
}

}  // namespace

void run_exit_steps(const ExitSteps& steps) {
    attempt("release writeback membership", steps.release_writeback);
    attempt("release CPU allocation", steps.release_cpus);
    if (attempt("remove runtime endpoints", steps.remove_endpoints)) {
        if (attempt("record the end of the run", steps.finish_rows))
            attempt("clean up the ephemeral sandbox", steps.clean_ephemeral);
    }
    attempt("mark exec.log", steps.mark_stopped);
    attempt("retire the metrics slot", steps.retire_metrics);
}

}  // namespace msb::runtime
