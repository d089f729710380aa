#include "cli/commands/borrowed.h"

#include "cli/report.h"
#include "cli/spinner.h"
#include "cli/style.h"

namespace msb::cli {

using microsandbox::Sandbox;
using microsandbox::SandboxStatus;

void BorrowedSandbox::check_startable(const microsandbox::SandboxHandle& handle) {
    switch (handle.status()) {
        case SandboxStatus::kRunning:
        case SandboxStatus::kCreated:
        case SandboxStatus::kStopped:
        case SandboxStatus::kCrashed:
            return;
        default:
            throw microsandbox::Error(microsandbox::ErrorCode::kCustom,
                                      "sandbox '" + handle.name() + "' is in state " +
                                          std::string(to_string(handle.status())) +
                                          " and cannot be started");
    }
}

Sandbox BorrowedSandbox::open(const microsandbox::SandboxHandle& handle, bool quiet,
                              bool& started) {
    check_startable(handle);
    if (handle.status() == SandboxStatus::kRunning) return handle.connect();
    const Spinner spinner("Starting", handle.name(), quiet);
    started = true;
    return handle.start();
}

BorrowedSandbox::BorrowedSandbox(const microsandbox::SandboxHandle& handle, bool quiet)
    : sandbox_(open(handle, quiet, started_)) {}

void BorrowedSandbox::give_back() {
    if (!started_) return;
    started_ = false;
    try {
        // To the end of the process: until then an unnamed sandbox still has its row, and its image is in use.
        if (sandbox_.owns_lifecycle())
            (void)sandbox_.stop_and_wait();
        else
            sandbox_.stop();
    } catch (...) {
        print_error(current_exception_text());
    }
}

}  // namespace msb::cli
