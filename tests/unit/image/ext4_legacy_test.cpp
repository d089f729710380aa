// Uppers made before 0.6.9: no resize inode, so the root directory and the journal stand one block earlier; the overhead in
// another field (spec/images.md section 12). They are grown in that shape.
#include "ext4_image_fixture.h"
#include "image/ext4_check.h"

namespace msb::image {
namespace {

using namespace ext4;

class Ext4LegacyTest : public Ext4GrowTest {
  protected:
    // Turns the image at path_ into what the old formatter made.
    void make_legacy() {
        UniqueFd fd = open();
        ImageFile file(fd.get());
        Super super = read_super(file, FileLength::kExact);
        const Geometry& geometry = super.geometry;
        std::uint64_t start = geometry.metadata_blocks(0);
        std::uint64_t data = start + 2 + kJournalBlocks;
        move_block(file, start + 1, start);      // root directory
        move_block(file, start + 2, start + 1);  // journal superblock
        move_block(file, data, data - 1);        // upper
        move_block(file, data + 1, data);        // work
        for (std::uint32_t r = 0; r < geometry.reserved; ++r)
            file.write_block(1 + geometry.gdt + r, Block(kBlockSize));
        move_inodes(file, super);

        Block bitmap = file.read_block(geometry.block_bitmap(0));
        bitmap[(data + 1) / 8] &= ~static_cast<std::byte>(1 << (data + 1) % 8);
        file.write_block(geometry.block_bitmap(0), bitmap);
        Block descriptors = file.read_blocks(1, geometry.gdt);
        std::span<std::byte> first = std::span(descriptors).first(kDescriptorSize);
        put<std::uint16_t>(first, 0x0C,
                           static_cast<std::uint16_t>(get<std::uint16_t>(first, 0x0C) + 1));
        std::uint32_t crc = crc32c(super.seed, bitmap);
        put(first, 0x18, static_cast<std::uint16_t>(crc));
        put(first, 0x38, static_cast<std::uint16_t>(crc >> 16));
        seal_descriptor(first, 0, super.seed);
        write_copies(file, super, descriptors);
    }

  private:
    static void move_block(const ImageFile& file, std::uint64_t from, std::uint64_t to) {
        file.write_block(to, file.read_block(from));
        file.write_block(from, Block(kBlockSize));
    }
    static void move_inodes(const ImageFile& file, const Super& super) {
        std::uint64_t number = super.geometry.inode_table(0);
        Block table = file.read_block(number);
        auto inode = [&](std::uint32_t n) {
            return std::span(table).subspan((n - 1) * kInodeSize, kInodeSize);
        };
        std::ranges::fill(inode(kResizeInode), std::byte{0});
        for (std::uint32_t n : {kRootInode, kJournalInode, kFirstInode, kFirstInode + 1}) {
            std::span<std::byte> raw = inode(n);
            put<std::uint32_t>(raw, 0x3C, get<std::uint32_t>(raw, 0x3C) - 1);
            seal_inode(raw, super.seed, n);
        }
        file.write_block(number, table);
    }
    static void write_copies(const ImageFile& file, const Super& super, const Block& descriptors) {
        Block table = file.read_block(super.geometry.inode_table(0));
        for (std::uint32_t group = 0; group < super.geometry.groups; ++group) {
            if (!has_super_copy(group)) continue;
            std::uint64_t start = super.geometry.group_start(group);
            std::uint64_t at = group == 0 ? kSuperOffset : start * kBlockSize;
            Block raw(kSuperSize);
            file.read(at, raw);
            put(raw, 0x5C, kLegacyCompat);
            put(raw, 0x0C, get<std::uint32_t>(raw, 0x0C) + 1);
            put(raw, 0x194, get<std::uint32_t>(raw, 0x248));
            put<std::uint32_t>(raw, 0x248, 0);
            std::copy_n(&table[(kJournalInode - 1) * kInodeSize + 0x28], kExtentRootSize,
                        &raw[0x10C]);
            seal_super(raw);
            file.write(at, raw);
            file.write_block(start + 1, descriptors);
        }
    }
};

TEST_F(Ext4LegacyTest, GrowsInItsShape) {
    format(200 * kMib);
    make_legacy();
    check_ext4(open().get());
    std::string before = run("e2fsck -fn " + path_.string());
    grow(640 * kMib);
    check_ext4(open().get());
    std::string grown = fingerprint();
    // To e2fsck it is no better and no worse than it was.
    EXPECT_EQ(run("e2fsck -fn " + path_.string()).find("FAILED"), before.find("FAILED")) << before;
    EXPECT_NE(debugfs(path_, "ls -p /").find("/11/040755/0/0/upper/"), std::string::npos);
    format(640 * kMib);
    make_legacy();
    EXPECT_EQ(fingerprint(), grown);
}

TEST_F(Ext4LegacyTest, AResizeInodeIsRefused) {
    format(256 * kMib);
    make_legacy();
    edit_block(260, [](auto raw) { raw[6 * kInodeSize] = std::byte{1}; });
    EXPECT_EQ(grow_error(512 * kMib),
              "image error: unsupported ext4 image: unexpected resize inode");
}

}  // namespace
}  // namespace msb::image
