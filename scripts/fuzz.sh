#!/usr/bin/env bash
# Runs the libFuzzer targets in build-fuzz/bin (built by `make fuzz` or the CMake preset "fuzz").
#
# usage: fuzz.sh SECONDS [target...]
#
# Each target runs for SECONDS of wall time, two at a time on two CPUs (FUZZ_JOBS changes that), on
# its seed corpus tests/fuzz/corpus/<target>/, which is only read: new inputs go to a scratch
# folder. A crash, leak, hang (120 s on one input, by the clock: hosts are busy) or more than 1 GiB
# of memory fails the target; the input that did it stays in build-fuzz/findings/, and the report
# says how to run it again.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

readonly build=build-fuzz
seconds=${1-}
[[ $seconds =~ ^[1-9][0-9]*$ ]] || {
    echo "fuzz: error: expected the number of seconds for each target (usage: fuzz.sh SECONDS [target...])" >&2
    exit 2
}
shift
shopt -s nullglob
targets=()
if [ $# -gt 0 ]; then
    for name in "$@"; do targets+=("$build/bin/fuzz_${name#fuzz_}"); done
else
    for target in "$build"/bin/fuzz_*; do [ ! -x "$target" ] || targets+=("$target"); done
fi
[ ${#targets[@]} -gt 0 ] || {
    echo "fuzz: error: no fuzz target in $build/bin: run 'cmake --preset fuzz && cmake --build --preset fuzz'" >&2
    exit 1
}
for target in "${targets[@]}"; do
    [ -x "$target" ] || { echo "fuzz: error: $target does not exist or is not built" >&2; exit 1; }
done

scratch=$(mktemp -d)
trap 'rm -rf -- "$scratch"' EXIT
mkdir -p "$build/findings"

# fuzz_one TARGET: runs one target and leaves a line for the report; never fails itself.
fuzz_one() {
    local target=$1 name log status=0 corpus runs features
    name=${target##*/}
    corpus=tests/fuzz/corpus/$name
    log=$scratch/$name.log
    mkdir -p "$scratch/$name"
    # The first folder takes new inputs, the others are read only.
    local folders=("$scratch/$name")
    [ ! -d "$corpus" ] || folders+=("$corpus")
    local dictionary=()
    [ ! -f "tests/fuzz/dict/$name.dict" ] || dictionary=("-dict=tests/fuzz/dict/$name.dict")
    ASAN_OPTIONS=${ASAN_OPTIONS:-allocator_may_return_null=1} "$target" \
        -max_total_time="$seconds" -timeout=120 -rss_limit_mb=1024 -print_final_stats=1 \
        -artifact_prefix="$build/findings/$name-" "${dictionary[@]}" "${folders[@]}" >"$log" 2>&1 || status=$?
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -n 1)
    features=$(grep -oE 'ft: [0-9]+' "$log" | tail -n 1 | cut -d' ' -f2)
    if [ "$status" -eq 0 ] && [ "${runs:-0}" -gt 0 ]; then
        printf 'ok    %-28s %12s runs  %8s features\n' "$name" "$runs" "${features:-?}" | tee "$scratch/$name.ok"
    else
        printf 'FAIL  %-28s exit status %s\n' "$name" "$status"
        grep -E 'ERROR:|SUMMARY:|runtime error:|Test unit written' "$log" | sed 's/^/      /' || tail -n 5 "$log"
        printf '      again: %s %s/findings/%s-...   (whole log: %s)\n' "$target" "$build" "$name" "$build/findings/$name.log"
        cp -- "$log" "$build/findings/$name.log"
    fi
}
export -f fuzz_one
export scratch seconds build

printf 'fuzz: %d targets, %s s each\n' "${#targets[@]}" "$seconds"
# shellcheck disable=SC2016 # expanded by the inner shell
printf '%s\0' "${targets[@]}" | xargs -0 -n 1 -P "${FUZZ_JOBS:-$(nproc)}" bash -c 'fuzz_one "$1"' fuzz_one
passed=("$scratch"/*.ok)
failed=$((${#targets[@]} - ${#passed[@]}))
printf 'fuzz: %d passed, %d failed\n' "${#passed[@]}" "$failed"
[ "$failed" -eq 0 ]
