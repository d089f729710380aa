#!/usr/bin/env bash
# Installs the Debian packages that building, testing and running microsandbox need.
#
# usage: install-deps.sh [--list]
#
# Does nothing, and needs no privileges, when everything is already there. Otherwise it runs apt-get,
# as root or through sudo. --list prints the package names, one a line, and installs nothing.
# Made for Debian 12 (bookworm); nothing comes from anywhere but Debian's own archive.
set -euo pipefail

readonly packages=(
    # compilers, build tools; clang-19 also gives the sanitizers, libFuzzer and the checks of `make lint`
    build-essential cmake ninja-build ccache pkg-config git
    clang-19 clang-tidy-19 clang-format-19 libclang-rt-19-dev llvm-19 shellcheck
    # guest kernel: its source, and what its build runs
    linux-source-6.12 flex bison bc libelf-dev libssl-dev xz-utils perl patch
    # guest images: initramfs archive, the demo root, ext4 and EROFS tools
    cpio busybox-static ca-certificates e2fsprogs erofs-utils
    # the engine
    qemu-system-x86 qemu-utils
    # libraries
    libboost1.81-dev nlohmann-json3-dev libsqlitecpp-dev libsqlite3-dev libfmt-dev
    libre2-dev libseccomp-dev libcap-ng-dev libisal-dev libzstd-dev liblzma-dev libbz2-dev
    libcurl4-openssl-dev libyaml-dev
    # tests: unit, benchmarks, end to end (Debian's python3, whatever else calls itself python3)
    libgtest-dev libgmock-dev libbenchmark-dev python3 python3-pytest tmux sqlite3 openssh-client
    # tests of images: a registry on loopback, and what fills it
    docker-registry skopeo umoci mmdebstrap openssl zstd bzip2
)

say() { printf 'install-deps: %s\n' "$*"; }
fail() {
    printf 'install-deps: error: %s\n' "$@" >&2
    exit 1
}

case ${1-} in
    '') ;;
    --list) printf '%s\n' "${packages[@]}"; exit 0 ;;
    -h | --help) sed -n '2,/^set -e/{/^#/s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) fail "unknown argument: $1" "usage: ${0##*/} [--list]" ;;
esac

command -v apt-get >/dev/null ||
    fail "apt-get was not found: this script knows Debian 12 (bookworm) and its derivatives only" \
        "on another system install the equivalents of these packages: ${packages[*]}"

missing=()
for package in "${packages[@]}"; do
    status=$(dpkg-query --show --showformat='${db:Status-Status}' "$package" 2>/dev/null) || status=
    [ "$status" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
    say "all ${#packages[@]} packages are installed"
    exit 0
fi

as_root=()
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null ||
        fail "${#missing[@]} packages are missing and installing them needs root, but sudo was not found" \
            "as root, run: apt-get install --no-install-recommends ${missing[*]}"
    as_root=(sudo)
fi
# Another apt-get (unattended upgrades, a second `make`) may hold the lock: wait for it, do not fail.
apt() {
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=600 -o Acquire::Retries=3 \
        -o Dpkg::Use-Pty=0 -q "$@"
}

say "installing ${#missing[@]} of ${#packages[@]} packages: ${missing[*]}"
apt update || fail "apt-get update failed (its message is above)" \
    "check the network and /etc/apt/sources.list, then run this again"
apt install --yes --no-install-recommends "${missing[@]}" ||
    fail "apt-get install failed (its message is above)" \
        "the packages are those of Debian 12 (bookworm) with its security and updates suites; check /etc/apt/sources.list"
say "done"
