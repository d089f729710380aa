// Growing ext4 images: check 10 of spec/images.md section 19, and every way to be refused or interrupted.
#include "image/ext4_grow.h"

#include <fstream>
#include <functional>

#include "ext4_image_fixture.h"
#include "image/disk_file.h"
#include "image/ext4_check.h"
#include "support/kill_point.h"

namespace msb::image {
namespace {

using namespace ext4;

TEST_F(Ext4GrowTest, Golden) {
    format(256 * kMib);
    grow(512 * kMib);
    EXPECT_EQ(hash(), "8225612e7f3e37af45a787b62850adb216d5233985d0cf680f9b0d2e7bd73011");
    expect_clean(path_);
    check_ext4(open().get());
}

TEST_F(Ext4GrowTest, GrownIsWhatFormattingMakes) {
    format(256 * kMib);
    grow(700 * kMib);
    std::string grown = fingerprint();
    format(700 * kMib);
    EXPECT_EQ(fingerprint(), grown);
}

TEST_F(Ext4GrowTest, GrowingInStepsEndsWhereOneStepEnds) {
    format(256 * kMib);
    for (std::uint64_t mib : {300, 384, 900, 2048})
        grow(mib * kMib);
    std::string steps = fingerprint();
    expect_clean(path_);
    format(256 * kMib);
    grow(2048 * kMib);
    EXPECT_EQ(fingerprint(), steps);
}

// 8 GiB is 64 groups: one block of descriptors. Beyond it the reserve behind the descriptors is used.
TEST_F(Ext4GrowTest, DescriptorsMoveIntoTheirReserve) {
    format(256 * kMib, random_ext4_uuid());
    grow(std::uint64_t{20} << 30);
    expect_clean(path_);
    check_ext4(open().get());
    std::string header = run("dumpe2fs -h " + path_.string());
    EXPECT_NE(header.find("Reserved GDT blocks:      254"), std::string::npos) << header;
    EXPECT_NE(header.find("Block count:              5242880"), std::string::npos) << header;
    grow(std::uint64_t{40} << 30);
    expect_clean(path_);
    EXPECT_LE(allocated(path_), 16 * kMib);
}

TEST_F(Ext4GrowTest, ContentSurvives) {
    format(256 * kMib, random_ext4_uuid());
    std::ofstream(directory_ / "data") << std::string(5'000'000, 'q');
    run("debugfs -w -R 'write " + (directory_ / "data").string() + " upper/data' " +
        path_.string());
    expect_clean(path_);
    grow(640 * kMib);
    expect_clean(path_);
    run("debugfs -R 'dump upper/data " + (directory_ / "back").string() + "' " + path_.string());
    EXPECT_EQ(read_file(directory_ / "back"), std::string(5'000'000, 'q'));
    // And what is new can be used.
    std::filesystem::resize_file(directory_ / "data", 300 * kMib);
    std::ofstream(directory_ / "data", std::ios::app) << std::string(5'000'000, 'r');
    run("debugfs -w -R 'write " + (directory_ / "data").string() + " upper/more' " +
        path_.string());
    expect_clean(path_);
}

TEST_F(Ext4GrowTest, SizesAreChecked) {
    format(256 * kMib);
    EXPECT_EQ(grow_error(256 * kMib + 100),
              "image error: invalid ext4 image size: image size must be aligned to 4096 bytes");
    EXPECT_EQ(grow_error(256 * kMib),
              "image error: invalid ext4 image size: new size 268435456 is not larger than the "
              "current 268435456");
    EXPECT_EQ(grow_error(386 * kMib),
              "image error: invalid ext4 image size: block group 3 has 512 blocks but needs at "
              "least 772 metadata blocks; choose a size that leaves either no partial group or a "
              "larger final group");
    std::uint64_t most = std::uint64_t{257} * 64 * 128 * kMib;
    EXPECT_EQ(grow_error(most + 4096),
              "image error: cannot grow ext4 image to 2207613194240 bytes: group descriptor "
              "capacity allows at most 2207613190144 bytes; recreate the image to grow beyond "
              "this");
    EXPECT_EQ(hash(), "41a908d836343010e74ea48b7766555627ff4c8d44f0fbcc528016a38e785040");
}

TEST_F(Ext4GrowTest, ForeignImagesAreRefusedUntouched) {
    struct Case {
        const char* reason;
        std::function<void()> damage;
    };
    const Case cases[] = {
        {"superblock magic mismatch",
         [&] { edit_super([](auto raw) { raw[0x38] = std::byte{0}; }); }},
        {"superblock checksum mismatch",
         [&] { edit_super([](auto raw) { raw[0x78] ^= std::byte{1}; }, false); }},
        {"file length does not match superblock block count",
         [&] { std::filesystem::resize_file(path_, 256 * kMib + 4096); }},
        {"file length does not match superblock block count",
         [&] { std::filesystem::resize_file(path_, 256 * kMib - 4096); }},
        {"unexpected compatible features",
         [&] { edit_super([](auto raw) { raw[0x5C] = std::byte{0x38}; }); }},
        {"unexpected incompatible features",
         [&] { edit_super([](auto raw) { raw[0x61] = std::byte{2}; }); }},
        {"unexpected read-only compatible features",
         [&] { edit_super([](auto raw) { raw[0x65] = std::byte{0}; }); }},
        {"unexpected state", [&] { edit_super([](auto raw) { raw[0x3A] = std::byte{3}; }); }},
        {"filesystem has recorded errors",
         [&] { edit_super([](auto raw) { raw[0x194] = std::byte{1}; }); }},
        {"unexpected inode count", [&] { edit_super([](auto raw) { raw[0] = std::byte{8}; }); }},
        {"unexpected hash seed", [&] { edit_super([](auto raw) { raw[0xEC] = std::byte{8}; }); }},
        {"filesystem has a pending orphan inode list",
         [&] { edit_super([](auto raw) { raw[0xE8] = std::byte{12}; }); }},
        {"group 1 has a descriptor checksum mismatch",
         [&] { edit_block(1, [](auto raw) { raw[64] ^= std::byte{1}; }); }},
        {"group 1 has unexpected flags",
         [&] {
             edit_block(1, [](auto raw) {
                 raw[64 + 0x12] = std::byte{5};
                 seal_descriptor(raw.subspan(64, 64), 1, checksum_seed(Ext4Uuid{}));
             });
         }},
        {"group 1 has a block bitmap checksum mismatch",
         [&] { edit_block(32768 + 258, [](auto raw) { raw[4000] ^= std::byte{1}; }); }},
        {"journal inode checksum mismatch",
         [&] { edit_block(260, [](auto raw) { raw[7 * 256 + 0x28] ^= std::byte{1}; }); }},
        {"journal superblock checksum mismatch",
         [&] { edit_block(774, [](auto raw) { raw[0x1F] = std::byte{1}; }); }},
        {"unexpected resize inode",
         [&] { edit_block(260, [](auto raw) { raw[6 * 256] ^= std::byte{1}; }); }},
        {"resize inode has unexpected blocks",
         [&] { edit_block(772, [](auto raw) { raw[4] = std::byte{9}; }); }},
        {"resize inode has unexpected blocks",
         [&] { edit_block(100, [](auto raw) { raw[0] ^= std::byte{1}; }); }},
    };
    for (const Case& one : cases) {
        format(256 * kMib);
        one.damage();
        std::string before = fingerprint();
        EXPECT_EQ(grow_error(512 * kMib),
                  std::string("image error: unsupported ext4 image: ") + one.reason);
        EXPECT_EQ(fingerprint(), before) << one.reason;
    }
}

TEST_F(Ext4GrowTest, OtherFilesAreRefused) {
    std::ofstream(path_) << "short";
    EXPECT_EQ(grow_error(kMib), "image error: unsupported ext4 image: file is too short");
    run("mke2fs -q -t ext4 -F " + path_.string() + " 256M");
    EXPECT_TRUE(grow_error(512 * kMib).starts_with("image error: unsupported ext4 image: "));
}

// --- interruption ---

// The process is killed before the changes growing makes. What is left is a consistent file system to e2fsck (which replays
// the journal, as a booting guest would), and growing again ends in the very image an undisturbed growth makes.
class Ext4KillTest : public Ext4GrowTest {
  protected:
    // `step(n)` is the change to be killed before after the n-th. Returns the number of changes.
    std::size_t kill_growth(std::uint64_t from, std::uint64_t to,
                            const std::function<std::size_t(std::size_t)>& step) {
        Ext4Uuid uuid = random_ext4_uuid();
        format(from, uuid);
        grow_disk(path_, to);
        std::string wanted = fingerprint();
        for (std::size_t n = 1;; n = step(n)) {
            std::filesystem::remove(path_.native() + ".growing");
            format(from, uuid);
            bool killed = test::killed_before_change(n, [&] { grow_disk(path_, to); });
            expect_consistent(n);
            grow_disk(path_, to);
            EXPECT_EQ(size_of(path_), to) << n;
            expect_clean(path_);
            check_ext4(open().get());
            EXPECT_FALSE(std::filesystem::exists(path_.native() + ".growing"));
            if (HasFailure()) return n;
            if (killed) continue;
            EXPECT_EQ(fingerprint(), wanted);
            return n;
        }
    }

    // The guest's view, which never knows how long the file is meant to be.
    void expect_consistent(std::size_t n) {
        std::filesystem::path seen = directory_ / "seen";
        copy_to(seen);
        std::string output = run("e2fsck -fy " + seen.string());
        EXPECT_EQ(output.find("FIXED"), std::string::npos) << n << output;
        expect_clean(seen);
    }
};

// A partial last group becomes whole, and one without copies is added.
TEST_F(Ext4KillTest, AtEveryChange) {
    EXPECT_GT(kill_growth(200 * kMib, 384 * kMib, [](std::size_t n) { return n + 1; }), 20U);
}

// A group with copies is added: all 256 blocks of the resize inode change.
TEST_F(Ext4KillTest, AmongManyChanges) {
    EXPECT_GT(
        kill_growth(300 * kMib, 700 * kMib, [](std::size_t n) { return n < 550 ? n + 61 : n + 5; }),
        500U);
}

}  // namespace
}  // namespace msb::image
