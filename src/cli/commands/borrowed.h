// A sandbox a command needs running: connected to when it runs, started for the duration when it does not
// (spec/cli.md section 5).
#pragma once

#include <microsandbox/sandbox.h>

#include <string>

namespace msb::cli {

class BorrowedSandbox {
  public:
    // Throws microsandbox::Error: kSandboxNotFound, kCustom "sandbox 'X' is in state Paused and cannot be started",
    // BootStartError. Shows a spinner while booting unless quiet.
    BorrowedSandbox(const microsandbox::SandboxHandle& handle, bool quiet);
    // Takes over one this call has created.
    explicit BorrowedSandbox(microsandbox::Sandbox created)
        : started_(true), sandbox_(std::move(created)) {}

    // Throws the "cannot be started" error unless the sandbox runs or may be started.
    static void check_startable(const microsandbox::SandboxHandle& handle);

    const microsandbox::Sandbox& operator*() const { return sandbox_; }
    const microsandbox::Sandbox* operator->() const { return &sandbox_; }

    // Stops it when this object started it: asks, kills after 10 s. Errors are printed. Without this call (an exception,
    // a signal) the sandbox still ends, because its owner is gone.
    void give_back();

  private:
    static microsandbox::Sandbox open(const microsandbox::SandboxHandle& handle, bool quiet,
                                      bool& started);

    bool started_ = false;
    microsandbox::Sandbox sandbox_;
};

}  // namespace msb::cli
