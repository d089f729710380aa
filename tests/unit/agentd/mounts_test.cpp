// Planning of user mounts, root file system probing and the mount table of the teardown.
#include <gmock/gmock.h>

#include "agentd/devices.h"
#include "agentd/failure.h"
#include "agentd/teardown.h"
#include "agentd/user_mounts.h"

namespace msb::agentd {
namespace {

using testing::ElementsAre;

template <class Call>
std::string failure_of(Call call) {
    try {
        call();
    } catch (const Failure& failure) {
        return failure.what();
    }
    return "";
}

std::vector<std::string> planned_paths(const protocol::Bootstrap& bootstrap) {
    std::vector<std::string> paths;
    for (const UserMount& mount : plan_user_mounts(bootstrap))
        paths.push_back(mount_path(mount));
    return paths;
}

TEST(MountPlan, ParentsComeFirstAcrossAllKinds) {
    protocol::Bootstrap bootstrap;
    bootstrap.tmpfs_mounts.push_back({.path = "/workspace/persist/cache"});
    bootstrap.disk_mounts.push_back({.id = "d", .guest_path = "/workspace/persist"});
    bootstrap.file_mounts.push_back(
        {.tag = "f", .filename = "app.toml", .guest_path = "/workspace/persist/app.toml"});
    bootstrap.dir_mounts.push_back({.tag = "w", .guest_path = "//workspace/./"});
    EXPECT_THAT(planned_paths(bootstrap),
                ElementsAre("//workspace/./", "/workspace/persist", "/workspace/persist/app.toml",
                            "/workspace/persist/cache"));
}

TEST(MountPlan, ConflictsAreRefused) {
    protocol::Bootstrap same;
    same.tmpfs_mounts = {{.path = "/a//b/"}, {.path = "/a/./b"}};
    EXPECT_EQ(failure_of([&] { plan_user_mounts(same); }),
              "init error: multiple volumes cannot mount the same guest path: /a/b");
    protocol::Bootstrap file;
    file.file_mounts.push_back({.tag = "t", .filename = "f", .guest_path = "/a/f"});
    file.tmpfs_mounts.push_back({.path = "/a/f/x/y"});
    EXPECT_EQ(failure_of([&] { plan_user_mounts(file); }),
              "init error: file mount cannot contain another mount: /a/f is an ancestor of "
              "/a/f/x/y");
    file.tmpfs_mounts[0].path = "/a/ff";
    EXPECT_EQ(failure_of([&] { plan_user_mounts(file); }), "");
}

TEST(MountPlan, PathsAreChecked) {
    EXPECT_EQ(normalized_mount_path("//a/./b//"), "/a/b");
    EXPECT_EQ(failure_of([] { normalized_mount_path("a"); }),
              "init error: invalid guest mount path: a");
    EXPECT_EQ(failure_of([] { normalized_mount_path("/a/../b"); }),
              "init error: guest mount path must not contain '..': /a/../b");
    EXPECT_EQ(failure_of([] { normalized_mount_path("/./"); }),
              "init error: cannot mount a volume at guest root /");
}

TEST(MountPlan, RestrictedForcesFlagsOnEveryKind) {
    protocol::Bootstrap bootstrap;
    bootstrap.security_profile = protocol::SecurityProfile::kRestricted;
    bootstrap.tmpfs_mounts.push_back({.path = "/t"});
    bootstrap.disk_mounts.push_back({.id = "d", .guest_path = "/d"});
    for (UserMount& mount : plan_user_mounts(bootstrap)) {
        auto flags = std::visit([](const auto& m) { return m.flags; }, mount);
        EXPECT_TRUE(flags.nosuid && flags.nodev);
        EXPECT_FALSE(flags.noexec || flags.readonly);
    }
}

TEST(MountPlan, TmpfsData) {
    EXPECT_EQ(tmpfs_data({.path = "/tmp", .size_mib = 16}), "size=16777216,mode=1777");
    EXPECT_EQ(tmpfs_data({.path = "/var/tmp/"}), "mode=1777");
    EXPECT_EQ(tmpfs_data({.path = "/scratch"}), "mode=755");
    EXPECT_EQ(tmpfs_data({.path = "/tmp", .mode = 0700}), "mode=700");
}

std::vector<std::byte> head_with(std::size_t offset, std::string_view magic) {
    std::vector<std::byte> head(kSuperblockProbe);
    std::ranges::copy(std::as_bytes(std::span(magic)), head.begin() + static_cast<long>(offset));
    return head;
}

TEST(Filesystem, SuperblocksAreRecognised) {
    EXPECT_EQ(detect_filesystem(head_with(0x438, "\x53\xef")), "ext4");
    EXPECT_EQ(detect_filesystem(head_with(0x400, "\xe2\xe1\xf5\xe0")), "erofs");
    EXPECT_EQ(detect_filesystem(head_with(0, "XFSB")), "xfs");
    EXPECT_EQ(detect_filesystem(head_with(0, "hsqs")), "squashfs");
    EXPECT_EQ(detect_filesystem(head_with(0x10040, "_BHRfS_M")), "btrfs");
    EXPECT_EQ(detect_filesystem(head_with(0x52, "FAT32   ")), "vfat");
    EXPECT_EQ(detect_filesystem(head_with(0, "")), "");
    EXPECT_EQ(detect_filesystem({}), "");
    std::vector<std::byte> cut = head_with(0x438, "\x53\xef");
    cut.resize(0x439);
    EXPECT_EQ(detect_filesystem(cut), "");
}

TEST(Filesystem, BlockTypesInFileOrder) {
    EXPECT_THAT(block_filesystems("nodev\tsysfs\n\text3\n\text2\nnodev\ttmpfs\n\tvfat\n"),
                ElementsAre("ext3", "ext2", "vfat"));
}

TEST(Teardown, MountTableIsDecoded) {
    auto mounts = parse_mounts(
        "/dev/vda / ext4 rw 0 0\n"
        "broken\n"
        "t /with\\040blank\\134x tmpfs rw 0 0\n"
        "u /odd\\04 xfs rw 0 0\n");
    ASSERT_EQ(mounts.size(), 3u);
    EXPECT_EQ(mounts[1].path, "/with blank\\x");
    EXPECT_EQ(mounts[2].path, "/odd\\04");
    EXPECT_TRUE(holds_data(mounts[0].type));
    EXPECT_FALSE(holds_data("tmpfs"));
    EXPECT_TRUE(holds_data("overlay"));
    EXPECT_TRUE(holds_data("virtiofs"));
    EXPECT_TRUE(must_be_clean(mounts[0]));
    EXPECT_FALSE(must_be_clean(mounts[1]));
    EXPECT_TRUE(must_be_clean({.source = "overlay", .path = "/", .type = "overlay"}));
    EXPECT_TRUE(must_be_clean({.source = "/dev/vdc", .path = "/data", .type = "ext4"}));
}

}  // namespace
}  // namespace msb::agentd
