#!/usr/bin/env bash
# Runs the tests of a finished build.
#
# usage: test.sh [PRESET] [ctest option...]
#
# PRESET is a CMake preset (default release). Labels: unit, integration, e2e; for example
#   scripts/test.sh release -L unit
# Fails when a test fails, and when there is no test at all; what failed is told at the end (run_ctest.py).
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

preset=release
if [ $# -gt 0 ] && [[ $1 != -* ]]; then
    preset=$1
    shift
fi
build=build
[ "$preset" = release ] || build=build-$preset
[ -f "$build/CTestTestfile.cmake" ] || {
    echo "test: error: $build is not built: run 'make test', which builds it" >&2
    exit 1
}
ulimit -c 0 # crash tests make cores; nobody looks at them here
exec /usr/bin/python3 scripts/run_ctest.py "$build" --parallel "$(nproc)" "$@"
