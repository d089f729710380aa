// The entry of `msb sandbox`.
#pragma once

namespace msb::runtime {

// Called by the command line for the hidden `sandbox` subcommand with the program's whole argument vector (global log
// flags before the subcommand included). Returns the exit status; may end the process itself.
int run_sandbox_process(int argc, char** argv);

}  // namespace msb::runtime
