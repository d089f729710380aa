#!/usr/bin/env bash
# Makes the demo root file system: Debian's static busybox on a small sparse ext4 disk.
#
# usage: build-busybox.sh OUT.raw
#
# Needs neither root nor a mount: mke2fs copies a staging folder into the image. The same busybox
# gives the same bytes on every run (fixed UUID, directory hash seed and time stamps), so the image
# can be compared and cached by content.
set -euo pipefail

readonly size=64M
# A root of its own identity; nothing looks these up, they only have to stay the same.
readonly uuid=6d736200-6275-7379-626f-780000000001
readonly hash_seed=6d736200-6275-7379-626f-780000000002
# The time of everything in the image, also for stage-busybox.sh.
export SOURCE_DATE_EPOCH=1735689600
readonly epoch=$SOURCE_DATE_EPOCH

fail() {
    printf 'build-busybox: error: %s\n' "$@" >&2
    exit 1
}

[ $# -eq 1 ] || fail "expected one argument, the image to write" "usage: ${0##*/} OUT.raw"
out=$1
PATH=$PATH:/usr/sbin:/sbin

command -v mke2fs >/dev/null || fail "mke2fs is not installed" "run 'make deps', or 'apt-get install e2fsprogs'"

mkdir -p -- "$(dirname -- "$out")"
tmp=$(mktemp -d -- "$out.work.XXXXXX")
trap 'rm -rf -- "$tmp"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP
root=$tmp/root
image=$tmp/image.raw

umask 022
"$(dirname -- "${BASH_SOURCE[0]}")/stage-busybox.sh" "$root"

# E2FSPROGS_FAKE_TIME stamps the superblock and the inodes mke2fs makes itself; -E root_owner and
# the configuration below make owners and features independent of the caller and of the host.
cat >"$tmp/mke2fs.conf" <<'END'
[defaults]
    base_features = sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr
    default_mntopts = acl,user_xattr
    blocksize = 4096
    inode_size = 256
    inode_ratio = 16384
    reserved_ratio = 1.0
[fs_types]
    ext4 = {
        features = has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize
    }
    small = {
        inode_size = 256
    }
END
truncate --size="$size" "$image"
E2FSPROGS_FAKE_TIME=$epoch MKE2FS_CONFIG=$tmp/mke2fs.conf MKE2FS_SKIP_PROGRESS=1 mke2fs -q -F -t ext4 \
    -L busybox -U "$uuid" -J size=4 -d "$root" \
    -E "root_owner=0:0,hash_seed=$hash_seed,lazy_itable_init=0,lazy_journal_init=0,nodiscard" "$image"

# mke2fs -d copies owner and change time from the staging folder: the one is the caller's, the other
# is now and cannot be set from user space. Both are put right inside the image.
stamp=$(TZ=UTC date --date="@$epoch" +%Y%m%d%H%M%S)
(cd -- "$root" && find . -mindepth 1 -printf '/%P\n' | LC_ALL=C sort |
    sed "s|.*|sif \"&\" uid 0\nsif \"&\" gid 0\nsif \"&\" ctime $stamp|") >"$tmp/fix"
TZ=UTC E2FSPROGS_FAKE_TIME=$epoch debugfs -w -f "$tmp/fix" "$image" >"$tmp/debugfs.log" 2>&1 ||
    fail "setting the owners inside the image failed: $(tail -n 1 "$tmp/debugfs.log")"
e2fsck -fn "$image" >"$tmp/e2fsck.log" 2>&1 || {
    cat "$tmp/e2fsck.log" >&2
    fail "the new image does not pass e2fsck (output above); this is a bug in this script"
}
fallocate --dig-holes "$image" 2>/dev/null || true # a sparser file where the file system can
chmod 0644 "$image"
mv -f -- "$image" "$out"
