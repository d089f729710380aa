#!/usr/bin/env bash
# Installs into a temporary prefix, builds examples/ against it with CMake and with pkg-config, and runs one in a VM.
#
# usage: install_test.sh BUILD_DIR SOURCE_DIR
set -euo pipefail
build=$1 source=$2
work=$(mktemp -d /tmp/sdkinXXXXXX)
trap 'rm -rf -- "$work"' EXIT
export MSB_HOME=$work/home
unset MSB_PATH MSB_KERNEL MSB_INITRAMFS LD_LIBRARY_PATH

cmake --install "$build" --prefix "$work/prefix" >"$work/install.log"
for file in bin/msb lib/microsandbox/vmlinux lib/microsandbox/initramfs.cpio share/microsandbox/busybox.raw \
    include/microsandbox/sandbox.h; do
    [ -s "$work/prefix/$file" ] || { echo "not installed: $file" >&2; exit 1; }
done

# No header but ours and the standard library's: each compiles alone.
for header in "$work"/prefix/include/microsandbox/*.h; do
    echo "#include <microsandbox/$(basename "$header")>" |
        c++ -std=c++20 -Wall -Wextra -Wpedantic -Werror -fsyntax-only -I "$work/prefix/include" -x c++ -
done

cmake -S "$source/examples" -B "$work/cmake" -DCMAKE_PREFIX_PATH="$work/prefix" -DCMAKE_BUILD_TYPE=Debug >"$work/cmake.log"
cmake --build "$work/cmake" >"$work/build.log" || { cat "$work/build.log" >&2; exit 1; }

libdir=$(dirname "$(find "$work/prefix" -name microsandbox.pc)")
export PKG_CONFIG_PATH=$libdir
mkdir "$work/pkg"
# shellcheck disable=SC2046 # flags are words
c++ -std=c++20 "$source/examples/hello.cpp" -o "$work/pkg/hello" $(pkg-config --cflags --libs microsandbox) \
    -Wl,-rpath,"$(pkg-config --variable=libdir microsandbox)"

# The installed msb is found from the library's own place, the kernel from msb's.
cp --sparse=always "$work/prefix/share/microsandbox/busybox.raw" "$work/root.raw"
for hello in "$work/cmake/hello" "$work/pkg/hello"; do
    status=0
    "$hello" "$work/root.raw" >"$work/out" 2>"$work/err" || status=$?
    [ "$status" = 7 ] || { cat "$work/out" "$work/err" >&2; echo "$hello: exit $status, not 7" >&2; exit 1; }
    [ "$(sed -n 2p "$work/out")" = out ] || { cat "$work/out" >&2; exit 1; }
    grep -qx err "$work/err"
done
"$work/cmake/stream" "$work/root.raw" | grep -qx "guest says: line 3"
"$work/cmake/files" "$work/root.raw" | grep -qx "hello from the host"
echo "installed SDK: ok"
