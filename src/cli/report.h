// What the user reads when something failed (spec/cli.md section 1.6), and the exit code that goes with it.
#pragma once

#include <microsandbox/error.h>

#include <string>

namespace msb::cli {

// Guest exit codes keep their low 8 bits: -1 (killed by a signal, detached, connection lost) is 255.
inline int guest_exit_code(int code) {
    return code & 0xff;
}

// "failed to start "NAME"" with the stage, a hint and where to look. The lines of the block, title first.
void print_boot_failure(const std::string& sandbox, const microsandbox::BootError& error);

// "failed to exec "CMD"" with the reason and a hint. Returns 127, 126 or 1.
int print_exec_failure(const microsandbox::ExecFailure& failure);

// Inside a catch block: prints the current exception in its block or as one line, returns the exit code.
int report_current_exception();

// The one-line text of the current exception ("unknown error" for what is no std::exception).
std::string current_exception_text();

}  // namespace msb::cli
