#!/usr/bin/env bash
# Asserts that the built guest kernel has the options the product relies on (required_options.txt).
#
# It reads the final .config in the kernel cache, not the fragment: what counts is what was built.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
build_script=$here/../../../guest/kernel/build.sh

config=$(dirname -- "$("$build_script" --print-path)")/config
[ -s "$config" ] || {
    echo "FAIL: $config does not exist: build the kernel first with 'make kernel'"
    exit 1
}
failures=0 count=0
while IFS= read -r line; do
    line=${line%%#*}
    line=${line//[[:space:]]/}
    [ -n "$line" ] || continue
    count=$((count + 1))
    case $line in
        !*) name=${line#!} wanted=absent ;;
        *=*) name=${line%%=*} wanted=${line#*=} ;;
        *) name=$line wanted=y ;;
    esac
    got=$(sed -n "s/^CONFIG_$name=//p" "$config")
    if [ "${got:-absent}" != "$wanted" ]; then
        echo "FAIL: CONFIG_$name should be $wanted, is ${got:-absent}"
        failures=$((failures + 1))
    fi
done <"$here/required_options.txt"

[ "$count" -gt 100 ] || { echo "FAIL: required_options.txt lists only $count options; was it cut?"; exit 1; }
[ "$failures" -eq 0 ] || { echo "$failures of $count options are wrong in $config"; exit 1; }
echo "all $count options are as required"
