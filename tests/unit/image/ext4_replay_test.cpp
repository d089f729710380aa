// Journals of ext4 images: what others wrote is replayed, and what we write others replay (spec/images.md section 12).
#include <fstream>

#include "ext4_image_fixture.h"
#include "image/ext4_check.h"
#include "image/ext4_journal.h"

namespace msb::image {
namespace {

using namespace ext4;

class Ext4ReplayTest : public Ext4GrowTest {
  protected:
    // Has debugfs, which has its own jbd2, write transactions; each line is one journal_write.
    void write_journal(const std::vector<std::string>& writes) {
        std::ofstream commands(directory_ / "commands");
        commands << "jo\n";
        for (const std::string& write : writes)
            commands << "jw " << write << "\n";
        commands << "jc\n";
        commands.close();
        std::string output =
            run("debugfs -w -f " + (directory_ / "commands").string() + " " + path_.string());
        EXPECT_TRUE(output.ends_with("[0]")) << output;
    }
    std::string block_file(const std::string& name, char fill, std::size_t blocks = 1) {
        std::ofstream(directory_ / name) << std::string(blocks * kBlockSize, fill);
        return (directory_ / name).string();
    }
    char block_byte(std::uint64_t number) const {
        UniqueFd fd = open();
        return static_cast<char>(ImageFile(fd.get()).read_block(number)[17]);
    }
};

// Blocks 40000 and up are free data blocks of group 1.
TEST_F(Ext4ReplayTest, TransactionsOfAnotherImplementationAreReplayed) {
    format(256 * kMib, random_ext4_uuid());
    write_journal({"-b 40000 " + block_file("a", 'a'), "-b 40001 " + block_file("b", 'b'),
                   "-b 40000 " + block_file("c", 'c')});
    EXPECT_NE(run("dumpe2fs -h " + path_.string()).find("needs_recovery"), std::string::npos);
    std::filesystem::path reference = directory_ / "reference";
    copy_to(reference);
    EXPECT_EQ(error_of([&] { check_ext4(open().get()); }),
              "image error: unsupported ext4 image: journal is not empty");
    grow(512 * kMib);
    expect_clean(path_);
    EXPECT_EQ(block_byte(40000), 'c');
    EXPECT_EQ(block_byte(40001), 'b');
    EXPECT_EQ(run("dumpe2fs -h " + path_.string()).find("needs_recovery"), std::string::npos);
}

TEST_F(Ext4ReplayTest, RevokedBlocksAreNotWritten) {
    format(256 * kMib, random_ext4_uuid());
    write_journal({"-b 40000,40001 " + block_file("a", 'a', 2), "-r 40000",
                   "-b 40002 " + block_file("b", 'b')});
    grow(512 * kMib);
    expect_clean(path_);
    EXPECT_EQ(block_byte(40000), 0);
    EXPECT_EQ(block_byte(40001), 'a');
    EXPECT_EQ(block_byte(40002), 'b');
}

TEST_F(Ext4ReplayTest, TransactionsWithoutACommitDoNotCount) {
    format(256 * kMib, random_ext4_uuid());
    write_journal({"-b 40000 " + block_file("a", 'a'), "-c -b 40001 " + block_file("b", 'b')});
    grow(512 * kMib);
    EXPECT_EQ(block_byte(40000), 'a');
    EXPECT_EQ(block_byte(40001), 0);
    expect_clean(path_);
}

TEST_F(Ext4ReplayTest, BlocksThatLookLikeTheJournalsAreEscaped) {
    format(256 * kMib, random_ext4_uuid());
    std::string data("\xC0\x3B\x39\x98", 4);
    std::ofstream(directory_ / "m", std::ios::binary) << data + std::string(4092, 'm');
    write_journal({"-b 40000 " + (directory_ / "m").string()});
    grow(512 * kMib);
    UniqueFd fd = open();
    Block block = ImageFile(fd.get()).read_block(40000);
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(block.data()), 4), data);
}

TEST_F(Ext4ReplayTest, DamagedTransactionsEndTheLog) {
    format(256 * kMib, random_ext4_uuid());
    write_journal({"-b 40000 " + block_file("a", 'a'), "-b 40001 " + block_file("b", 'b')});
    // Log: descriptor, data, commit, descriptor, data, commit, from block 1 of the journal at 774.
    edit_block(774 + 5, [](auto raw) { raw[100] ^= std::byte{1}; });
    grow(512 * kMib);
    EXPECT_EQ(block_byte(40000), 'a');
    EXPECT_EQ(block_byte(40001), 0);
    expect_clean(path_);
}

TEST_F(Ext4ReplayTest, TargetsOutsideAreErrorsBeforeAnyWrite) {
    format(256 * kMib);
    {
        UniqueFd fd = open();
        ImageFile file(fd.get());
        Journal journal(file, read_super(file, FileLength::kExact).journal(), Ext4Uuid{});
        BlockMap blocks;
        blocks[40000] = Block(kBlockSize, std::byte{'x'});
        blocks[65536] = Block(kBlockSize, std::byte{'y'});
        journal.log(blocks);
        journal.commit();
    }
    edit_super([](auto raw) { raw[0x60] |= std::byte{4}; });
    std::string before = fingerprint();
    EXPECT_EQ(grow_error(512 * kMib),
              "image error: unsupported ext4 image: journal writes to block 65536, which is "
              "outside the file system");
    EXPECT_EQ(fingerprint(), before);
}

TEST_F(Ext4ReplayTest, EmptyLogWithTheRecoverFlagGrows) {
    format(256 * kMib);
    edit_super([](auto raw) { raw[0x60] |= std::byte{4}; });
    grow(512 * kMib);
    expect_clean(path_);
    EXPECT_EQ(run("dumpe2fs -h " + path_.string()).find("needs_recovery"), std::string::npos);
}

TEST_F(Ext4ReplayTest, LogWithoutTheRecoverFlagIsRefused) {
    format(256 * kMib);
    {
        UniqueFd fd = open();
        ImageFile file(fd.get());
        Journal journal(file, read_super(file, FileLength::kExact).journal(), Ext4Uuid{});
        journal.log({{40000, Block(kBlockSize)}});
        journal.commit();
    }
    EXPECT_EQ(grow_error(512 * kMib), "image error: unsupported ext4 image: journal is not empty");
}

// What we log is what another implementation carries out.
TEST_F(Ext4ReplayTest, OurTransactionIsReplayedByE2fsck) {
    format(256 * kMib, random_ext4_uuid());
    {
        UniqueFd fd = open();
        ImageFile file(fd.get());
        Super super = read_super(file, FileLength::kExact);
        Journal journal(file, super.journal(), super.uuid);
        BlockMap blocks;  // more than one descriptor block lists
        for (std::uint64_t i = 0; i < 600; ++i)
            blocks[40000 + i] = Block(kBlockSize, static_cast<std::byte>('A' + i % 26));
        put_big_endian<std::uint32_t>(blocks[40300], 0, 0xC03B3998);
        journal.log(blocks);
        journal.commit();
    }
    edit_super([](auto raw) { raw[0x60] |= std::byte{4}; });
    std::string output = run("e2fsck -fy " + path_.string());
    EXPECT_NE(output.find("recovering journal"), std::string::npos) << output;
    expect_clean(path_);
    for (std::uint64_t i = 0; i < 600; ++i)
        ASSERT_EQ(block_byte(40000 + i), static_cast<char>('A' + i % 26)) << i;
    UniqueFd fd = open();
    EXPECT_EQ(ImageFile(fd.get()).read_block(40300)[0], std::byte{0xC0});
}

}  // namespace
}  // namespace msb::image
