// What the sandbox process gives up: capabilities at its start, system calls once its machine runs (DESIGN.md section 6).
#pragma once

namespace msb::runtime {

// Keeps only what reaching the user's files takes (as root: DAC override, ownership, kill), also for the engine, and sets
// no_new_privs. Before any thread exists. Failures are logged: confinement is a second line of defence.
void drop_capabilities();

// Installs the system call filter for all threads. Unlisted calls fail with EPERM, so that an overlooked one costs a
// function and not the sandbox; calls that only an attacker makes (exec, ptrace, mount, modules, keys, bpf, namespaces)
// kill the process, and the engine with it. Sanitizer builds stay unfiltered: their runtimes fork and trace.
void filter_system_calls();

}  // namespace msb::runtime
