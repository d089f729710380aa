#!/usr/bin/env bash
# Asserts how guest/kernel/build.sh behaves around a build, without building: a finished entry is
# used as it is, deliveries are exact and atomic, and every refusal says what to do.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
build_script=$here/../../../guest/kernel/build.sh
work=$(mktemp -d)
trap 'rm -rf -- "$work"' EXIT
fail() { echo "FAIL: $*"; exit 1; }

export MSB_KERNEL_CACHE=$work/cache
path=$("$build_script" --print-path)
[[ $path == "$work"/cache/*/vmlinux ]] || fail "--print-path printed '$path'"
[ ! -e "$work/cache" ] || fail "--print-path wrote something"

# A cached kernel is delivered without any tool of the build.
mkdir -p "$(dirname "$path")"
echo "pretend kernel" >"$path"
out=$("$build_script" --output "$work/out/deep/vmlinux" 2>"$work/err") || fail "delivery failed: $(cat "$work/err")"
[ "$out" = "$path" ] || fail "standard output is '$out', should be the path alone"
[ ! -s "$work/err" ] || fail "a delivery from the cache should be silent, said: $(cat "$work/err")"
cmp "$path" "$work/out/deep/vmlinux" || fail "the copy differs"
[ "$(ls "$work/out/deep")" = vmlinux ] || fail "temporary files stayed behind"
# Identical content is left alone, so that builds that depend on the file do not run again.
touch -d '2020-01-01' "$work/out/deep/vmlinux"
"$build_script" --output "$work/out/deep/vmlinux" >/dev/null
[ "$(stat -c %Y "$work/out/deep/vmlinux")" = "$(date -d 2020-01-01 +%s)" ] || fail "an identical copy was rewritten"

# Another fragment is another kernel.
cp -r -- "$(dirname "$build_script")" "$work/kernel"
echo '# changed' >>"$work/kernel/config.fragment"
[ "$("$work/kernel/build.sh" --print-path)" != "$path" ] || fail "the hash ignores the fragment"

refuses() { # expected text, then arguments
    local text=$1
    shift
    ! "$build_script" "$@" >/dev/null 2>"$work/err" || fail "'$*' should fail"
    grep -qF -- "$text" "$work/err" || fail "'$*' said: $(cat "$work/err")"
}
refuses "unknown argument: --nope" --nope
refuses "--jobs needs a positive number" --jobs 0
rm -rf "$work/cache" && touch "$work/cache"
refuses "set MSB_KERNEL_CACHE to a writable folder"
echo "build.sh behaves"
