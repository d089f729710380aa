#include "vmm/exit_status.h"

#include <fmt/format.h>
#include <sys/wait.h>

#include <string_view>

#include "base/process.h"
#include "base/text.h"

namespace msb::vmm {
namespace {

std::string with_output(std::string text, std::string_view output) {
    output = trim(output);
    if (!output.empty()) text += fmt::format(": {}", output);
    return text;
}

}  // namespace

std::string_view to_string(ExitKind kind) {
    switch (kind) {
        case ExitKind::kGuestShutdown:
            return "guest shutdown";
        case ExitKind::kGuestPanic:
            return "guest panic";
        case ExitKind::kHostRequest:
            return "host request";
        case ExitKind::kEngineKilled:
            return "engine killed";
        case ExitKind::kEngineError:
            return "engine error";
        case ExitKind::kAcceleratorError:
            return "accelerator error";
    }
    return "unknown";
}

MachineExit classify_exit(const ExitEvidence& e) {
    if (e.internal_error)
        return {ExitKind::kAcceleratorError, 1,
                with_output("the accelerator reported an internal error", e.engine_output)};
    if (!e.violation.empty())
        return {ExitKind::kEngineError, 1, with_output(e.violation, e.engine_output)};
    // The kernel resets the machine after a panic, so the engine sees an ordinary reset.
    if (e.guest_ended && !e.panic_line.empty()) return {ExitKind::kGuestPanic, 1, e.panic_line};
    if (e.guest_ended) return {ExitKind::kGuestShutdown, 0, ""};
    if (e.kill_requested) return {ExitKind::kHostRequest, 0, ""};
    if (WIFSIGNALED(e.wait_status))
        return {ExitKind::kEngineKilled, 1,
                with_output("the engine was killed (" + exit_status_text(e.wait_status) + ")",
                            e.engine_output)};
    if (e.host_signal)
        return {ExitKind::kEngineKilled, 1,
                with_output("the engine was told to end by a signal", e.engine_output)};
    const std::string_view what =
        e.engine_started ? "the engine failed ({})" : "the engine did not start ({})";
    return {ExitKind::kEngineError, 1,
            with_output(fmt::format(fmt::runtime(what), exit_status_text(e.wait_status)),
                        e.engine_output)};
}

}  // namespace msb::vmm
