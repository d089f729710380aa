// `msb sandbox` alone, for tests that need a real process before (or without) the whole command line.
#include "runtime/process.h"

int main(int argc, char** argv) {
    return msb::runtime::run_sandbox_process(argc, argv);
}
