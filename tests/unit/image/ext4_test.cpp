#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/fd.h"
#include "base/hash.h"
#include "disk_fixture.h"
#include "image/ext4_format.h"

namespace msb::image {
namespace {

class Ext4Test : public DiskTest {
  protected:
    void expect_clean() { DiskTest::expect_clean(path_); }
    std::string format_error(std::uint64_t size) {
        try {
            format_ext4(upper_skeleton(), {}, {.size = size}, fd_.get());
        } catch (const Error& e) {
            return e.detail();
        }
        return "formatted";
    }

    std::string path_ = directory_ / "disk";
    UniqueFd fd_{::open(path_.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600)};
};

// Check 9 of spec/images.md section 19.
TEST_F(Ext4Test, GoldenUpper) {
    format_ext4(upper_skeleton(), {}, {.size = 256 << 20}, fd_.get());
    EXPECT_EQ(sha256_hex(read_file(path_)),
              "41a908d836343010e74ea48b7766555627ff4c8d44f0fbcc528016a38e785040");
    expect_clean();
}

TEST_F(Ext4Test, LargeUpperIsCleanAndSparse) {
    format_ext4(upper_skeleton(), {}, {.size = std::uint64_t{8} << 30, .uuid = random_ext4_uuid()},
                fd_.get());
    expect_clean();
    struct stat st{};
    ASSERT_EQ(::stat(path_.c_str(), &st), 0);
    EXPECT_EQ(st.st_size, std::int64_t{8} << 30);
    EXPECT_LE(st.st_blocks * 512, 4 << 20);
}

TEST_F(Ext4Test, SizesThatCannotHoldAFileSystemAreRefused) {
    EXPECT_EQ(format_error(4097),
              "invalid ext4 image size: image size must be aligned to 4096 bytes");
    EXPECT_EQ(format_error(130 << 20),
              "invalid ext4 image size: block group 1 has 512 blocks but needs at least 772 "
              "metadata blocks; choose a size that leaves "
              "either no partial group or a larger final group");
    EXPECT_EQ(format_error(4096), "image size is too small for ext4 formatting");
}

// Every kind of inode, read back by debugfs.
TEST_F(Ext4Test, RootfsKeepsMetadata) {
    FileTree tree;
    auto add = [&](InodeId parent, const std::string& name, Inode inode) {
        InodeId id = tree.create(std::move(inode));
        tree.link(parent, name, id);
        return id;
    };
    Inode directory;
    directory.mode = S_IFDIR | 01777;
    directory.mtime = 1700000000;
    InodeId many = add(FileTree::kRoot, "many", directory);
    for (int i = 0; i < 1000; ++i) {
        Inode empty;
        empty.mode = S_IFREG | 0640;
        add(many, "a-rather-long-file-name-" + std::to_string(i), empty);
    }
    Inode file;
    file.mode = S_IFREG | 04755;
    file.uid = 100000;
    file.gid = 70000;
    file.size = 300 << 20;  // over three groups: several extents
    file.mtime = 5000000000;
    file.xattrs = {{"security.capability", std::string("\x01\x00\x00\x02\x00\x20\x00\x00", 8)}};
    InodeId big = add(FileTree::kRoot, "big", file);
    tree.link(many, "hard", big);
    Inode attributes;
    attributes.mode = S_IFREG | 0644;
    attributes.xattrs = {{"user.long", std::string(2000, 'v')}, {"user.a", "b"}};
    add(FileTree::kRoot, "attributes", attributes);
    Inode link;
    link.mode = S_IFLNK | 0777;
    link.target = std::string(59, 's');
    add(FileTree::kRoot, "short-link", link);
    link.target = std::string(60, 'l');
    add(FileTree::kRoot, "long-link", link);
    Inode device;
    device.mode = S_IFCHR | 0666;
    device.device_major = 1;
    device.device_minor = 3;
    add(FileTree::kRoot, "null", device);
    device.device_minor = 70000;
    add(FileTree::kRoot, "wide", device);

    std::string piece = "here are bytes";
    auto content = [&](InodeId id, const Ext4PieceWriter& write) {
        if (id == big) write((200 << 20) + 4090, std::as_bytes(std::span(piece)));
    };
    format_ext4(tree, content,
                {.size = std::uint64_t{1} << 30,
                 .uuid = random_ext4_uuid(),
                 .encoding = Ext4Encoding::kRootfs},
                fd_.get());
    expect_clean();
    std::string big_stat = run("debugfs -R 'stat /big' " + path_);
    EXPECT_NE(big_stat.find("Mode:  04755"), std::string::npos) << big_stat;
    EXPECT_NE(big_stat.find("User: 100000"), std::string::npos);
    EXPECT_NE(big_stat.find("Links: 2"), std::string::npos);
    EXPECT_NE(big_stat.find("security.capability (8)"), std::string::npos) << big_stat;
    EXPECT_NE(
        run("debugfs -R 'ea_get /attributes user.long' " + path_).find(std::string(2000, 'v')),
        std::string::npos);
    EXPECT_NE(run("debugfs -R 'cat /big' " + path_ + " | tail -c +" +
                  std::to_string((200 << 20) + 4091) + " | head -c 14")
                  .find(piece),
              std::string::npos);
    EXPECT_NE(run("debugfs -R 'stat /wide' " + path_).find("01:70000"), std::string::npos)
        << run("debugfs -R 'stat /wide' " + path_);
    EXPECT_NE(run("debugfs -R 'stat /long-link' " + path_).find("Size: 60"), std::string::npos);
}

}  // namespace
}  // namespace msb::image
