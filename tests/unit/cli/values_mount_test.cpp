// Mounts, tmpfs, root disks and copies (spec/cli.md section 3; texts as upstream 0.6.18 prints them).
#include "cli/values_mount.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "value_error.h"

namespace msb::cli {
namespace {

// A directory with a file `f` and a directory `d`.
class Mounts : public ::testing::Test {
  protected:
    void SetUp() override {
        std::string path = "/tmp/cli-mounts-XXXXXX";
        root_ = ::mkdtemp(path.data());
        std::filesystem::create_directory(root_ / "d");
        std::ofstream(root_ / "f") << "x";
    }
    void TearDown() override { std::filesystem::remove_all(root_); }
    std::string in(const std::string& name) const { return (root_ / name).string(); }
    std::filesystem::path root_;
};

TEST(Volume, SplitsAtTheFirstColonBeforeASlash) {
    const auto mount = parse_volume("a:b:/c:ro,noexec, nosuid,,nodev");
    EXPECT_EQ(mount.source, "a:b");
    EXPECT_EQ(mount.guest, "/c");
    EXPECT_EQ(mount.kind, MountKind::kNamed);
    EXPECT_TRUE(mount.readonly && mount.noexec && mount.nosuid && mount.nodev);
    EXPECT_EQ(parse_volume("./a:/b").kind, MountKind::kBind);
    EXPECT_FALSE(parse_volume("a:/b:rw").readonly);
    EXPECT_EQ(parse_volume("a:/b:uid=1,gid=2,quota=1G").quota_mib, 1024u);
}

TEST(Volume, RefusesWithTheContractsTexts) {
    const std::pair<std::string, std::string> cases[] = {
        {"foo", "volume must be in format source:/guest[:options]"},
        {":/b", "volume source must not be empty"},
        {"a:/b:zz", "mount option \"zz\" must be a flag or key=value"},
        {"a:/b,ro", "volume options must use source:guest:options syntax, for example a:/b:ro"},
        {"x:/y,zz,noexec",
         "volume options must use source:guest:options syntax, for example x:/y:zz,noexec"},
        {"/tmp:/x:uid=1", "mount options `uid` and `gid` must be specified together"},
        {"a:/b:ro,rw", "mount option `ro`/`rw` specified more than once"},
        {"a:/b:noexec,noexec", "mount option `noexec` specified more than once"},
        {"a:/b:suid", "unsupported mount option \"suid\""},
        {"a:/b:ro=1", "unknown mount option \"ro\""},
        {"a:/b:=x", "unknown mount option \"\""},
        {"a:/b:uid=x,gid=1", "invalid uid \"x\" (expected an unsigned integer)"},
        {"a:/b:stat-virt=zz", "invalid stat-virt \"zz\" (expected strict|relaxed|off)"},
        {"a:/b:host-perms=zz", "invalid host-perms \"zz\" (expected private|mirror)"},
        {"a:/b:quota=zz", "invalid size (expected e.g. 512M, 1G): invalid digit found in string"},
        {"a:/b:fstype=ext4", "mount option `fstype` is not valid here"},
        {"a:/b:kind=dir", "mount option `kind` is not valid here"},
        {"a:/b:size=1G", "mount option `size` is not valid here"},
        {"a:/b:ro:noexec", "mount option \"ro:noexec\" must be a flag or key=value"},
        {"a:/b:RO", "mount option \"RO\" must be a flag or key=value"},
    };
    for (const auto& [text, error] : cases)
        EXPECT_EQ(error_of([&] { return parse_volume(text); }), error) << text;
}

TEST_F(Mounts, ExplicitKindsLookAtTheSource) {
    EXPECT_EQ(parse_mount_dir(in("d") + ":/b:ro").source, in("d"));
    EXPECT_EQ(parse_mount_file(in("f") + ":/b").source, in("f"));
    EXPECT_EQ(error_of([&] { return parse_mount_dir(in("f") + ":/b"); }),
              "mount-dir source is not a directory: " + in("f"));
    EXPECT_EQ(error_of([&] { return parse_mount_file(in("d") + ":/b"); }),
              "mount-file source is not a regular file: " + in("d"));
    EXPECT_EQ(error_of([&] { return parse_mount_dir("./nope:/b"); }),
              "mount-dir source \"./nope\": No such file or directory (os error 2)");
}

TEST(MountDisk, TakesAFormatAndAFileSystem) {
    const auto mount = parse_mount_disk("x.img:/m:format=raw,fstype=ext4,ro");
    EXPECT_EQ(mount.format, "raw");
    EXPECT_EQ(mount.fstype, "ext4");
    EXPECT_TRUE(mount.readonly);
    const std::pair<std::string, std::string> cases[] = {
        {"x.raw:/b:format=zz", "invalid disk image format \"zz\": unknown disk image format: zz"},
        {"x.raw:/b:fstype=", "mount option `fstype` must not be empty"},
        {"x.raw:/b:fstype=a=b", "mount option `fstype` must not contain ',', ';', ':', or '='"},
        {"x.raw:/b:uid=1,gid=1", "mount option `uid` is not valid here"},
        {"x.raw:/b:follow-root-symlinks", "mount option `follow-root-symlinks` is not valid here"},
    };
    for (const auto& [text, error] : cases)
        EXPECT_EQ(error_of([&] { return parse_mount_disk(text); }), error) << text;
}

TEST(MountNamed, DisksNeedASize) {
    const auto disk = parse_mount_named("x:/y:kind=disk,size=1G");
    EXPECT_TRUE(disk.named_disk);
    EXPECT_EQ(disk.size_mib, 1024u);
    EXPECT_FALSE(parse_mount_named("x:/y:kind=directory,quota=5").named_disk);
    const std::pair<std::string, std::string> cases[] = {
        {"x:/y:kind=disk", "mount-named kind=disk requires size=..."},
        {"x:/y:kind=zz", "invalid named volume kind \"zz\" (expected dir|disk)"},
        {"x:/y:size=1G", "mount-named option `size` requires kind=disk"},
        {"x:/y:kind=disk,size=1G,quota=1G", "mount-named kind=disk does not support quota=..."},
        {"x:/y:kind=disk,size=1G,uid=1,gid=1",
         "mount-named kind=disk does not support stat-virt=..., host-perms=..., or uid/gid"},
        {"./x:/y", "mount-named source must be a volume name, not a host path: ./x"},
    };
    for (const auto& [text, error] : cases)
        EXPECT_EQ(error_of([&] { return parse_mount_named(text); }), error) << text;
}

TEST(Tmpfs, TakesASizeAndOptionsInEitherForm) {
    EXPECT_EQ(parse_tmpfs("/t").size_mib, std::nullopt);
    EXPECT_EQ(parse_tmpfs("/t:64").size_mib, 64u);
    EXPECT_EQ(parse_tmpfs("/t:1 G").size_mib, 1024u);
    EXPECT_TRUE(parse_tmpfs("/t:ro").readonly);
    EXPECT_EQ(parse_tmpfs("/t:noexec,size=1G").size_mib, 1024u);
    const auto both = parse_tmpfs("/t:64M:ro");
    EXPECT_EQ(both.size_mib, 64u);
    EXPECT_TRUE(both.readonly);
    const std::pair<std::string, std::string> cases[] = {
        {"", "tmpfs path must not be empty"},
        {":64", "tmpfs path must not be empty"},
        {"/t:", "invalid size (expected e.g. 512M, 1G): cannot parse integer from empty string"},
        {"/t:zz", "invalid size (expected e.g. 512M, 1G): invalid digit found in string"},
        {"/t::ro", "tmpfs size must not be empty before options"},
        {"/t:64:size=3", "tmpfs size specified more than once"},
        {"/t:size=1G,size=2G", "mount option `size` specified more than once"},
        {"/t:64,noexec", "mount option \"64\" must be a flag or key=value"},
        {"/t:foo=1", "unknown mount option \"foo\""},
        {"/t:uid=1,gid=1", "mount option `uid` is not valid here"},
        {"/t:ro,suid", "unsupported mount option \"suid\""},
    };
    for (const auto& [text, error] : cases)
        EXPECT_EQ(error_of([&] { return parse_tmpfs(text); }), error) << text;
}

TEST(RootDisk, HasFourForms) {
    using Kind = RootDiskValue::Kind;
    EXPECT_EQ(parse_root_disk("8G").size_mib, 8192u);
    EXPECT_EQ(parse_root_disk("tmpfs").kind, Kind::kTmpfs);
    EXPECT_EQ(parse_root_disk("tmpfs:2G").size_mib, 2048u);
    EXPECT_EQ(parse_root_disk("flat").kind, Kind::kFlat);
    EXPECT_EQ(parse_root_disk("flat:8G,fstype=ext4,clone=copy").clone, "copy");
    EXPECT_EQ(parse_root_disk("flat:clone=auto").clone, "auto");
    const auto image = parse_root_disk("./x.foo:format=qcow2,fstype=ext4");
    EXPECT_EQ(image.kind, Kind::kImage);
    EXPECT_EQ(image.path, "./x.foo");
    EXPECT_EQ(image.format, "qcow2");
    EXPECT_EQ(image.fstype, "ext4");
    EXPECT_EQ(parse_root_disk("d/x.raw").kind, Kind::kImage) << "a slash makes it a path";

    const std::string not_a_size =
        "--root-disk: invalid size (expected e.g. 512M, 1G): invalid digit found in string "
        "(expected a size, tmpfs[:SIZE], "
        "flat[:SIZE][,OPTIONS], or an image path)";
    const std::pair<std::string, std::string> cases[] = {
        {"",
         "--root-disk requires a value (e.g. 8G, tmpfs:2G, flat:8G, ./scratch.qcow2:format=qcow2)"},
        {"zz", not_a_size},
        {"x.raw", not_a_size},
        {"flat,fstype=ext4", not_a_size},
        {"FLAT", not_a_size},
        {"flat:", "--root-disk: flat: requires a size or option after ':'"},
        {"flat:8G,", "--root-disk: empty flat root option"},
        {"flat:8G,clone=zz",
         "--root-disk: unsupported flat clone strategy 'zz' (expected auto, copy, or reflink)"},
        {"flat:8G,fstype=ext4,fstype=ext4", "--root-disk: duplicate fstype option"},
        {"./x.raw:format=vmdk", "--root-disk: unsupported format 'vmdk' (expected raw or qcow2)"},
        {"./x.raw:ro",
         "--root-disk: unknown option 'ro' (expected format=raw|qcow2 or fstype=...)"},
    };
    for (const auto& [text, error] : cases)
        EXPECT_EQ(error_of([&] { return parse_root_disk(text); }), error) << text;
}

TEST_F(Mounts, CopiesNeedASourceOfTheRightKind) {
    EXPECT_TRUE(parse_copy(in("d") + ":/x", CopyKind::kAny).directory);
    EXPECT_FALSE(parse_copy(in("f") + ":/x", CopyKind::kFile).directory);
    EXPECT_EQ(error_of([&] { return parse_copy(in("f") + ":/x", CopyKind::kDirectory); }),
              "--copy-dir: " + in("f") + " is not a directory");
    EXPECT_EQ(error_of([&] { return parse_copy(in("d") + ":/x", CopyKind::kFile); }),
              "--copy-file: " + in("d") + " is not a file");
    EXPECT_EQ(error_of([] { return parse_copy("/etc/passwd:/x", CopyKind::kDirectory); }),
              "--copy-dir: /etc/passwd is not a directory");
    EXPECT_EQ(error_of([] { return parse_copy("./nope:/x", CopyKind::kAny); }),
              "--copy: stat ./nope: No such file or directory (os error 2)");
    EXPECT_EQ(error_of([] { return parse_copy("zz", CopyKind::kAny); }),
              "--copy must be in format source:/guest[:options]");
    EXPECT_EQ(error_of([] { return parse_copy(":/x", CopyKind::kAny); }),
              "--copy source path cannot be empty");
    EXPECT_EQ(error_of([] { return parse_guest_path("a", "--mkdir"); }),
              "--mkdir: guest path must be absolute: a");
}

}  // namespace
}  // namespace msb::cli
