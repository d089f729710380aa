#!/usr/bin/env bash
# Runs every benchmark of a finished build, one after the other: bin/bench_*, bin/*_bench and the scripts that are
# executable in bench/ and its folders.
#
# usage: bench.sh [BUILD_DIR] [name...]
#
# With names, only benchmarks whose file name contains one of them. Scripts get the build folder in
# MSB_BUILD_DIR. MSB_BENCH_UPSTREAM=npm (or a path) compares with upstream's msb where that makes sense. Fails when one fails; a benchmark's figures never do.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

build=${1:-build}
[ $# -eq 0 ] || shift
MSB_BUILD_DIR=$(cd -- "$build" && pwd) || {
    echo "bench: error: $build does not exist: run 'make bench', which builds it, first" >&2
    exit 1
}
export MSB_BUILD_DIR

wanted() {
    local name
    [ $# -gt 1 ] || return 0
    for name in "${@:2}"; do [[ ${1##*/} != *"$name"* ]] || return 0; done
    return 1
}
shopt -s nullglob
failed=() count=0
for bench in "$build"/bin/bench_* "$build"/bin/*_bench bench/*.{sh,py} bench/*/*.{sh,py}; do
    if [ ! -x "$bench" ] || ! wanted "$bench" "$@"; then continue; fi
    count=$((count + 1))
    printf '\n== %s\n' "${bench##*/}"
    "$bench" || failed+=("${bench##*/}")
done
[ "$count" -gt 0 ] || { echo "bench: error: no benchmark found in $build/bin or bench/" >&2; exit 1; }
if [ ${#failed[@]} -gt 0 ]; then
    echo "bench: error: ${#failed[@]} of $count benchmarks failed: ${failed[*]}" >&2
    exit 1
fi
