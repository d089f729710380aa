// spec/sandbox-process.md section 5, conformance checks 6, 8 and 17.
#include "contract/mount_spec.h"

#include <gtest/gtest.h>

#include "base/error.h"

namespace msb::contract {
namespace {

std::string mount_error(std::string_view spec) {
    try {
        (void)parse_mount_spec(spec);
        return "accepted";
    } catch (const Error& error) {
        return error.detail();
    }
}

std::string disk_error(std::string_view spec) {
    try {
        (void)parse_disk_spec(spec);
        return "accepted";
    } catch (const Error& error) {
        return error.detail();
    }
}

TEST(MountSpec, SplitsAtTheFirstAndTheLastColon) {
    EXPECT_EQ(mount_error("t:/a:b"), "expected flag or key=value option, got \"b\"");
    const MountSpec colons = parse_mount_spec("t:/a:b:ro");
    EXPECT_EQ(colons.host_path, "/a:b");
    EXPECT_TRUE(colons.read_only);
}

TEST(MountSpec, BlankOptionsAreSkipped) {
    EXPECT_FALSE(parse_mount_spec("t:/tmp:").read_only);
    EXPECT_TRUE(parse_mount_spec("t:/tmp:,,ro,").read_only);
    const MountSpec mount = parse_mount_spec("t:/tmp: ro , noexec");
    EXPECT_TRUE(mount.read_only && mount.noexec);
}

TEST(MountSpec, EveryOption) {
    const MountSpec mount = parse_mount_spec(
        "data:/"
        "srv:rw,noexec,nosuid,nodev,follow-root-symlinks,stat-virt=relaxed,host-perms=mirror,quota="
        "4096,uid=5,gid=6");
    EXPECT_TRUE(mount.noexec && mount.nosuid && mount.nodev && mount.follow_root_symlinks &&
                !mount.read_only);
    EXPECT_EQ(mount.stat_virt, StatVirtualization::kRelaxed);
    EXPECT_EQ(mount.host_perms, HostPermissions::kMirror);
    EXPECT_EQ(mount.quota_bytes, 4096ull << 20);
    EXPECT_EQ(mount.uid, 5u);
    EXPECT_EQ(mount.gid, 6u);
    EXPECT_EQ(parse_mount_spec(format_mount_spec(mount)), mount);
    EXPECT_EQ(parse_mount_spec("t:/x:quota=99999999999999999").quota_bytes, UINT64_MAX);
    const MountSpec colon = parse_mount_spec("t:/a:b:");
    EXPECT_EQ(parse_mount_spec(format_mount_spec(colon)), colon);
}

TEST(MountSpec, ErrorTexts) {
    EXPECT_EQ(mount_error("nocolon"), "expected tag:host_path[:opts] shape, got \"nocolon\"");
    EXPECT_EQ(mount_error(":/x"), "empty tag in mount spec \":/x\"");
    EXPECT_EQ(mount_error("t::ro"), "empty host path in mount spec \"t::ro\"");
    EXPECT_EQ(mount_error("t:/a,b:ro"),
              "mount options must use tag:host_path:opts syntax, got comma in host path \"/a,b\"");
    EXPECT_EQ(mount_error("t:/tmp:ro,rw"), "mount option `ro`/`rw` specified more than once");
    EXPECT_EQ(mount_error("t:/tmp:quota=1,quota=2"),
              "mount option `quota` specified more than once");
    EXPECT_EQ(mount_error("t:/tmp:suid"), "unsupported mount option \"suid\"");
    EXPECT_EQ(mount_error("t:/tmp:blah"), "expected flag or key=value option, got \"blah\"");
    EXPECT_EQ(mount_error("t:/tmp:a=b"), "unknown mount option \"a\"");
    EXPECT_EQ(mount_error("t:/tmp:stat-virt=x"),
              "invalid stat-virt \"x\" (expected strict|relaxed|off)");
    EXPECT_EQ(mount_error("t:/tmp:host-perms=x"),
              "invalid host-perms \"x\" (expected private|mirror)");
    EXPECT_EQ(mount_error("t:/tmp:quota=-1"),
              "invalid quota \"-1\" (expected an integer count of MiB)");
    EXPECT_EQ(mount_error("t:/tmp:uid=x,gid=1"),
              "invalid uid \"x\" (expected an unsigned integer)");
    EXPECT_EQ(mount_error("t:/tmp:uid=1"),
              "mount options `uid` and `gid` must be specified together");
    EXPECT_EQ(mount_error("t:/tmp:uid=1,gid=1,stat-virt=off"),
              "mount options `uid` and `gid` cannot be combined with stat-virt=off");
}

TEST(DiskSpec, Forms) {
    const DiskSpec disk = parse_disk_spec("x:/a:b.raw:raw:ro");
    EXPECT_EQ(disk.id, "x");
    EXPECT_EQ(disk.host_path, "/a:b.raw");
    EXPECT_EQ(disk.format, DiskImageFormat::kRaw);
    EXPECT_TRUE(disk.read_only);
    EXPECT_EQ(parse_disk_spec(format_disk_spec(disk)), disk);
    EXPECT_EQ(disk_error("id:/h:raw:rw"),
              "invalid --disk entry with unknown format \"rw\": \"id:/h:raw:rw\"");
    EXPECT_EQ(disk_error("id:/h:raw:RO"),
              "invalid --disk entry with unknown format \"RO\": \"id:/h:raw:RO\"");
    EXPECT_EQ(disk_error("id"), "invalid --disk entry, expected id:host:format[:ro], got: \"id\"");
    EXPECT_EQ(disk_error("id:raw"),
              "invalid --disk entry, expected id:host:format[:ro], got: \"id:raw\"");
    EXPECT_EQ(disk_error(":/h:raw"), "invalid --disk entry with empty id: \":/h:raw\"");
    EXPECT_EQ(disk_error("id::raw"), "invalid --disk entry with empty host path: \"id::raw\"");
}

TEST(MountTag, Vectors) {
    EXPECT_EQ(mount_tag("/data"), "data_bd47413b");
    EXPECT_EQ(mount_tag("/etc/hostfile.txt"), "etc_hostfil_03706b46");
    EXPECT_EQ(mount_tag("/"), "8a5edab2");
    EXPECT_EQ(mount_tag("/var/log"), "var_log_9a6a409e");
    EXPECT_EQ(mount_tag("/var_log"), "var_log_05a60675");
}

}  // namespace
}  // namespace msb::contract
