#!/usr/bin/env bash
# Builds the guest kernel from Debian's kernel source, our patches and our configuration fragment.
#
# usage: build.sh [--output FILE] [--jobs N]
#        build.sh --print-path
#
#   (no option)     build unless the cache has it; print the path of vmlinux on standard output
#   --output FILE   also place a copy at FILE (replaced atomically, untouched when identical)
#   --jobs N        parallel compiler jobs (default: number of CPUs)
#   --print-path    print where vmlinux is or would be, and build nothing
#
# The result is a stripped, uncompressed x86_64 ELF with a PVH entry point and no modules, in
#   ${MSB_KERNEL_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/microsandbox/kernel}/<hash>/{vmlinux,config,System.map}
# where <hash> covers the fragment, the patches, this script and the version of the source package. An entry
# appears by one rename, complete; a lock per hash makes concurrent callers build once. Progress and
# errors go to standard error.
set -euo pipefail

readonly source_package=linux-source-6.12
readonly source_tarball=/usr/src/$source_package.tar.xz
# Roughly how many objects a build makes: only the denominator of the progress display.
readonly expected_objects=2040
# Source tree plus objects, in KiB.
readonly needed_disk_kib=$((3 * 1024 * 1024))

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
readonly here fragment=$here/config.fragment
readonly patches=("$here"/patches/*.patch)

say() { printf 'kernel: %s\n' "$*" >&2; }
fail() {
    printf 'kernel: error: %s\n' "$@" >&2
    exit 1
}

usage() { sed -n '2,/^set -e/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; }

output=
jobs=$(nproc)
print_path=no
while [ $# -gt 0 ]; do
    case $1 in
        --output) output=${2:?--output needs a file name}; shift 2 ;;
        --output=*) output=${1#*=}; shift ;;
        --jobs) jobs=${2:?--jobs needs a number}; shift 2 ;;
        --jobs=*) jobs=${1#*=}; shift ;;
        --print-path) print_path=yes; shift ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; fail "unknown argument: $1" ;;
    esac
done
[[ $jobs =~ ^[1-9][0-9]*$ ]] || fail "--jobs needs a positive number, got '$jobs'"

# ---- Where the result lives ------------------------------------------------------------------------
version=$(dpkg-query --show --showformat='${Version}' "$source_package" 2>/dev/null) || version=
if [ -z "$version" ] || [ ! -r "$source_tarball" ]; then
    fail "the kernel source is not installed ($source_tarball is missing)" \
        "install the Debian package $source_package: run 'make deps', or 'apt-get install $source_package'"
fi
hash=$( { printf '%s\n' "$version"; cat -- "$fragment" "${patches[@]}" "${BASH_SOURCE[0]}"; } | sha256sum | cut -c1-16)
cache=${MSB_KERNEL_CACHE:-${XDG_CACHE_HOME:-${HOME:?HOME is not set; set MSB_KERNEL_CACHE}/.cache}/microsandbox/kernel}
entry=$cache/$hash
if [ "$print_path" = yes ]; then
    printf '%s\n' "$entry/vmlinux"
    exit 0
fi

deliver() {
    if [ -n "$output" ] && ! cmp -s -- "$entry/vmlinux" "$output"; then
        mkdir -p -- "$(dirname -- "$output")"
        cp -- "$entry/vmlinux" "$output.tmp.$$"
        mv -f -- "$output.tmp.$$" "$output"
    fi
    printf '%s\n' "$entry/vmlinux"
}

if [ -s "$entry/vmlinux" ]; then
    deliver
    exit 0
fi

# ---- Preconditions, before anything is written -------------------------------------------------------
missing=()
require() { command -v "$1" >/dev/null || missing+=("$2"); }
require gcc build-essential
require make build-essential
require flex flex
require bison bison
require bc bc
require xz xz-utils
require perl perl
require patch patch
[ -e /usr/include/libelf.h ] || missing+=(libelf-dev)
if [ ${#missing[@]} -gt 0 ]; then
    fail "tools for building the kernel are missing" \
        "run 'make deps', or 'apt-get install ${missing[*]}'"
fi
mkdir -p -- "$cache" || fail "cannot create the kernel cache $cache" "set MSB_KERNEL_CACHE to a writable folder"
free_kib=$(df -Pk -- "$cache" | awk 'NR == 2 {print $4}')
if [ "$free_kib" -lt "$needed_disk_kib" ]; then
    fail "the build needs $((needed_disk_kib / 1024)) MiB of disk and $cache has $((free_kib / 1024)) MiB" \
        "free some space, or set MSB_KERNEL_CACHE to a folder on a larger disk"
fi

# ---- One builder per hash ----------------------------------------------------------------------------
exec 9>"$cache/$hash.lock"
if ! flock --nonblock 9; then
    say "another build of the same kernel is running; waiting for it"
    flock 9
fi
if [ -s "$entry/vmlinux" ]; then
    deliver
    exit 0
fi
# We hold the lock, so a work folder of this hash belongs to a build that was killed.
rm -rf -- "$cache/$hash".work.*

work=$(mktemp -d -- "$cache/$hash.work.XXXXXX")
make_pid=
cleanup() {
    [ -z "$make_pid" ] || kill "$make_pid" 2>/dev/null || true
    rm -rf -- "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Same input, same bytes: no host name, user or date in the image.
export KBUILD_BUILD_USER=microsandbox KBUILD_BUILD_HOST=microsandbox
export KBUILD_BUILD_TIMESTAMP='Thu Jan  1 00:00:00 UTC 1970' KBUILD_BUILD_VERSION=1
export LC_ALL=C
unset MAKEFLAGS MFLAGS MAKELEVEL KCONFIG_CONFIG KBUILD_OUTPUT ARCH CROSS_COMPILE

compiler=gcc
command -v ccache >/dev/null && compiler="ccache gcc"
src=$work/$source_package
log=$work/build.log
kmake=(make -C "$src" ARCH=x86 CC="$compiler" HOSTCC="$compiler")

SECONDS=0
clock() { printf '%d:%02d' $((SECONDS / 60)) $((SECONDS % 60)); }

say "unpacking $source_package $version"
# Sources of other architectures and of hardware no microVM has are two thirds of the tree; the
# Kconfig files among them must stay because the x86 ones include them.
tar --extract --file "$source_tarball" --directory "$work" \
    --exclude="$source_package/Documentation/*/*" \
    --exclude="$source_package/drivers/gpu/drm/*.[ch]" \
    --exclude="$source_package/drivers/media/*.[ch]" \
    --exclude="$source_package/drivers/net/ethernet/*.[ch]" \
    --exclude="$source_package/drivers/net/wireless/*.[ch]" \
    --exclude="$source_package/drivers/scsi/*.[ch]" \
    --exclude="$source_package/drivers/staging/*.[ch]" \
    --exclude="$source_package/drivers/infiniband/*.[ch]" \
    --exclude="$source_package/sound/*.[ch]" \
    --exclude="$source_package/tools/testing/*.[ch]" \
    --exclude="$source_package/arch/[!x]*/*.[chS]" \
    --exclude="$source_package/arch/xtensa/*.[chS]" \
    --exclude="$source_package/arch/*.dts*" \
    || fail "unpacking $source_tarball failed" "reinstall it: apt-get install --reinstall $source_package"

for patch in "${patches[@]}"; do
    # No fuzz: a hunk that has to be guessed at after a source update is one somebody must look at.
    patch --directory "$src" --strip=1 --fuzz=0 --batch --forward --input "$patch" >"$log" 2>&1 || {
        cat -- "$log" >&2
        fail "guest/kernel/patches/${patch##*/} does not apply to $source_package $version (output above)" \
            "bring the patch up to date with the new source"
    }
done

say "configuring"
"${kmake[@]}" KCONFIG_ALLCONFIG="$fragment" allnoconfig >"$log" 2>&1 || {
    tail -n 20 "$log" >&2
    fail "the kernel's configuration step failed (its last lines are above)"
}

# Kconfig drops, without a word, whatever a dependency forbids and whatever symbol no longer exists.
verify_config() {
    local line symbol status=0
    while IFS= read -r line; do
        case $line in
            CONFIG_*=*)
                grep -qxF -- "$line" "$src/.config" && continue
                symbol=${line%%=*}
                ;;
            '# CONFIG_'*' is not set')
                symbol=${line#\# }
                symbol=${symbol%% *}
                grep -q -- "^$symbol=" "$src/.config" || continue
                ;;
            *) continue ;;
        esac
        say "  asked for '$line', got '$(grep -E -- "^(# )?${symbol}[= ]" "$src/.config" || echo nothing)'"
        status=1
    done <"$fragment"
    return $status
}
verify_config || fail "the fragment asks for options the kernel did not accept (listed above)" \
    "correct guest/kernel/config.fragment: the option was renamed, or something it depends on is off"

say "compiling $(grep -c '=y$' "$src/.config") options with $jobs jobs"
progress() {
    local object_count=0 last=-1 percent line
    while IFS= read -r line; do
        case $line in
            '  CC '* | '  AS '*) object_count=$((object_count + 1)) ;;
            *) continue ;;
        esac
        percent=$((object_count * 100 / expected_objects))
        [ "$percent" -le 99 ] || percent=99
        if [ -t 2 ]; then
            [ "$percent" = "$last" ] || printf '\rkernel: compiling %3d%%  %s ' "$percent" "$(clock)" >&2
            last=$percent
        elif [ $((SECONDS / 30)) -gt "$last" ]; then
            last=$((SECONDS / 30))
            say "$percent% ($object_count objects, $(clock))"
        fi
    done
    [ ! -t 2 ] || printf '\r\033[K' >&2
}
# In the background, so that a signal to this script is acted on at once and not after make; with a
# parent-death signal and without the lock, so that even SIGKILL leaves no make that holds up others.
# shellcheck disable=SC2094 # two writers append to the log; nobody reads it before make has ended
(exec 9>&- && exec setpriv --pdeathsig TERM "${kmake[@]}" -j"$jobs" vmlinux) \
    > >(exec 9>&- && tee -a "$log" | progress) 2>>"$log" &
make_pid=$!
make_status=0
wait "$make_pid" || make_status=$?
make_pid=
if [ $make_status -ne 0 ]; then
    failed_log=$cache/$hash.failed.log
    cp -- "$log" "$failed_log"
    grep -nE 'error|Error|No space' "$log" | tail -n 15 >&2 || tail -n 15 "$log" >&2
    fail "the kernel build failed (exit status $make_status)" "the whole log is in $failed_log"
fi

# ---- Check and publish ---------------------------------------------------------------------------------
mkdir "$work/entry"
objcopy --strip-all "$src/vmlinux" "$work/entry/vmlinux"
cp "$src/.config" "$work/entry/config"
cp "$src/System.map" "$work/entry/System.map"
# QEMU enters through note 18 (XEN_ELFNOTE_PHYS32_ENTRY); without it -kernel says "no PVH entry".
readelf --notes --wide "$work/entry/vmlinux" | grep -Eq 'Xen .*\(0x00000012\)' ||
    fail "the built vmlinux has no PVH entry note" "check CONFIG_PVH in guest/kernel/config.fragment"
chmod 0644 "$work/entry"/*
sync -- "$work/entry"/*
mv -T -- "$work/entry" "$entry"
sync -- "$cache"
rm -f -- "$cache/$hash.failed.log"
say "built in $(clock): $(du -k --apparent-size "$entry/vmlinux" | cut -f1) KiB"
deliver
