#!/usr/bin/env bash
# Makes the folder tree of the demo root file system: Debian's static busybox and what a small Linux has around it.
#
# usage: stage-busybox.sh FOLDER
#
# FOLDER must not exist. The same busybox gives the same tree, time stamps included; owners are the
# caller's, for the packers (build-busybox.sh, oci_archive.py) to set.
set -euo pipefail

# 2025-01-01T00:00:00Z: not 0, which tar, make and some tests take for "no time".
readonly epoch=${SOURCE_DATE_EPOCH:-1735689600}

fail() {
    printf 'stage-busybox: error: %s\n' "$@" >&2
    exit 1
}

[ $# -eq 1 ] || fail "expected one argument, the folder to make" "usage: ${0##*/} FOLDER"
root=$1
PATH=$PATH:/usr/sbin:/sbin

busybox=$(command -v busybox) || fail "busybox is not installed" "run 'make deps', or 'apt-get install busybox-static'"
# A dynamic busybox would need a C library that the image does not have.
if readelf --program-headers --wide "$busybox" | grep -q INTERP; then
    fail "$busybox is dynamically linked, the image needs a static one" \
        "run 'make deps', or 'apt-get install busybox-static' (it replaces the package busybox)"
fi

readonly certificates=/etc/ssl/certs/ca-certificates.crt
[ -s "$certificates" ] || fail "$certificates is missing" "run 'make deps', or 'apt-get install ca-certificates'"

umask 022
mkdir "$root"
(
    cd -- "$root"
    mkdir bin dev etc home mnt opt proc root run sbin srv sys tmp usr usr/bin usr/lib usr/local usr/local/bin \
        usr/sbin usr/share usr/share/udhcpc var var/cache var/lib var/log var/tmp
    chmod 0700 root
    chmod 1777 tmp var/tmp
    ln -s ../run var/run
    cp -- "$busybox" bin/busybox
    chmod 0755 bin/busybox
    # Every applet at the path busybox itself names for it (bin, sbin, usr/bin, usr/sbin), as a
    # relative link so that the tree works below any mount point too.
    bin/busybox --list-full | while IFS= read -r applet; do
        [ "$applet" != bin/busybox ] || continue
        case $applet in
            usr/*/*) target=../../bin/busybox ;;
            bin/*) target=busybox ;;
            */*) target=../bin/busybox ;;
            *) target=bin/busybox ;; # linuxrc
        esac
        mkdir -p -- "$(dirname -- "$applet")"
        ln -s "$target" "$applet"
    done
    cat >etc/passwd <<'END'
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
END
    cat >etc/group <<'END'
root:x:0:
daemon:x:1:
tty:x:5:
disk:x:6:
wheel:x:10:
nogroup:x:65534:
END
    printf 'root:*:20089:0:99999:7:::\ndaemon:*:20089:0:99999:7:::\nnobody:*:20089:0:99999:7:::\n' >etc/shadow
    chmod 0640 etc/shadow
    printf '127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n' >etc/hosts
    printf 'busybox\n' >etc/hostname
    printf 'passwd: files\ngroup: files\nhosts: files dns\n' >etc/nsswitch.conf
    # Written by the agent at boot when the sandbox has a network.
    : >etc/resolv.conf
    printf '/bin/sh\n/bin/ash\n' >etc/shells
    # The certificates of Debian's ca-certificates, where OpenSSL, Go and busybox' wget look for them.
    mkdir -p etc/ssl/certs
    cp -- "$certificates" etc/ssl/certs/ca-certificates.crt
    chmod 0644 etc/ssl/certs/ca-certificates.crt
    ln -s certs/ca-certificates.crt etc/ssl/cert.pem
    cat >etc/profile <<'END'
export PATH="${PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}"
export PAGER=less
PS1='\u@\h:\w\$ '
umask 022
END
    cat >etc/os-release <<'END'
NAME="BusyBox"
ID=busybox
PRETTY_NAME="BusyBox demo root of microsandbox"
HOME_URL="https://busybox.net/"
END
)
find "$root" -exec touch --no-dereference --date="@$epoch" {} +
