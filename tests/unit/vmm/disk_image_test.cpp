// Images made by qemu-img, and the ways in which a header can lie.
#include "vmm/disk_image.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <cstdlib>
#include <cstring>
#include <fstream>

#include "base/fd.h"

namespace msb::vmm {
namespace {

using ::testing::HasSubstr;

class DiskImageTest : public ::testing::Test {
  protected:
    DiskImageTest() {
        char name[] = "/tmp/vmm-disk-XXXXXX";
        directory_ = ::mkdtemp(name);
    }
    ~DiskImageTest() override { std::filesystem::remove_all(directory_); }

    std::filesystem::path qemu_img(const std::string& name, const std::string& options) {
        const auto path = directory_ / name;
        const std::string command = fmt::format("cd {} && qemu-img create -q {} {} 8M",
                                                directory_.string(), options, path.string());
        EXPECT_EQ(std::system(command.c_str()), 0) << command;
        return path;
    }
    std::filesystem::path write(const std::string& name, std::string_view content) {
        const auto path = directory_ / name;
        std::filesystem::create_directories(path.parent_path());
        std::ofstream(path, std::ios::binary) << content;
        return path;
    }
    void patch(const std::filesystem::path& path, std::size_t offset, std::string_view bytes) {
        std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
        file.seekp(static_cast<std::streamoff>(offset));
        file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    }
    std::string error(const Disk& disk) {
        try {
            inspect_disk_image(disk);
        } catch (const DiskImageError& e) {
            return e.what();
        }
        return "accepted";
    }
    std::string descriptor(const std::string& extents, const std::string& parent = "ffffffff") {
        return fmt::format(
            "# Disk DescriptorFile\nversion=1\nCID=fffffffe\nparentCID={}\n"
            "createType=\"twoGbMaxExtentFlat\"\n\n# Extent description\n{}\n"
            "# The Disk Data Base\n#DDB\nddb.virtualHWVersion = \"4\"\n",
            parent, extents);
    }

    std::filesystem::path directory_;
};

TEST_F(DiskImageTest, RawIsItsSize) {
    const auto path = write("a.raw", std::string(4096, '\0'));
    EXPECT_EQ(inspect_disk_image({.path = path}).virtual_size, 4096u);
    EXPECT_EQ(error({.path = write("empty.raw", "")}), "the raw image is empty");
}

TEST_F(DiskImageTest, WhatIsNotThereOrNotAFile) {
    EXPECT_EQ(error({.path = directory_ / "none"}), "No such file or directory (os error 2)");
    EXPECT_EQ(error({.path = directory_, .read_only = true}),
              "neither a regular file nor a block device");
    EXPECT_EQ(error({.path = directory_}), "Is a directory (os error 21)");
    ASSERT_EQ(::mkfifo((directory_ / "fifo").c_str(), 0600), 0);
    EXPECT_EQ(error({.path = directory_ / "fifo", .read_only = true}),
              "neither a regular file nor a block device");
}

TEST_F(DiskImageTest, Qcow2) {
    const auto path = qemu_img("a.qcow2", "-f qcow2");
    EXPECT_EQ(inspect_disk_image({.path = path, .format = DiskFormat::kQcow2}).virtual_size,
              8u << 20);
    const auto old = qemu_img("b.qcow2", "-f qcow2 -o compat=0.10");
    EXPECT_EQ(inspect_disk_image({.path = old, .format = DiskFormat::kQcow2}).virtual_size,
              8u << 20);
}

TEST_F(DiskImageTest, FormatsAreNeverGuessed) {
    const auto raw = write("a.raw", std::string(4096, 'x'));
    const auto qcow2 = qemu_img("a.qcow2", "-f qcow2");
    const auto vmdk = qemu_img("a.vmdk", "-f vmdk");
    EXPECT_EQ(error({.path = raw, .format = DiskFormat::kQcow2}),
              "not a qcow2 image (it may be a raw image): state the format it has");
    EXPECT_EQ(error({.path = raw, .format = DiskFormat::kVmdk}),
              "not a vmdk image (it may be a raw image): state the format it has");
    EXPECT_THAT(error({.path = qcow2}), HasSubstr("it looks like a qcow2 image"));
    EXPECT_THAT(error({.path = vmdk}), HasSubstr("it looks like a vmdk image"));
    EXPECT_THAT(error({.path = qcow2, .format = DiskFormat::kVmdk}), HasSubstr("qcow2"));
}

TEST_F(DiskImageTest, Qcow2MustBeSelfContained) {
    qemu_img("base.qcow2", "-f qcow2");
    EXPECT_THAT(error({.path = qemu_img("over.qcow2", "-f qcow2 -b base.qcow2 -F qcow2"),
                       .format = DiskFormat::kQcow2}),
                HasSubstr("`qemu-img rebase -b \"\"`"));
    EXPECT_THAT(error({.path = qemu_img("ext.qcow2", "-f qcow2 -o data_file=ext.data"),
                       .format = DiskFormat::kQcow2}),
                HasSubstr("keeps its data in an external file"));
}

TEST_F(DiskImageTest, Qcow2HeaderThatLies) {
    const auto refuse = [&](std::size_t offset, std::string_view bytes) {
        const auto path = qemu_img("x.qcow2", "-f qcow2");
        patch(path, offset, bytes);
        return error({.path = path, .format = DiskFormat::kQcow2});
    };
    using namespace std::string_view_literals;
    EXPECT_THAT(refuse(4, "\0\0\0\x09"sv), HasSubstr("qcow2 version 9 is not supported"));
    EXPECT_THAT(refuse(20, "\0\0\0\x40"sv), HasSubstr("damaged (cluster size)"));
    EXPECT_THAT(refuse(32, "\0\0\0\x01"sv), HasSubstr("encrypted"));
    EXPECT_THAT(refuse(72, "\0\0\0\0\0\0\0\x02"sv), HasSubstr("`qemu-img check -r all`"));
    EXPECT_THAT(refuse(72, "\x80\0\0\0\0\0\0\0"sv), HasSubstr("does not know"));
    EXPECT_THAT(refuse(24, "\0\0\0\0\0\0\0\0"sv), HasSubstr("virtual size 0"));
    EXPECT_EQ(
        error({.path = write("cut.qcow2", "QFI\xfb\0\0\0\x03"sv), .format = DiskFormat::kQcow2}),
        "the qcow2 header is cut off");
    // A corrupt image may still be looked at.
    const auto path = qemu_img("y.qcow2", "-f qcow2");
    patch(path, 72, "\0\0\0\0\0\0\0\x02"sv);
    EXPECT_EQ(error({.path = path, .format = DiskFormat::kQcow2, .read_only = true}), "accepted");
}

TEST_F(DiskImageTest, VmdkOfEveryKindQemuMakes) {
    for (const char* kind : {"monolithicSparse", "monolithicFlat", "twoGbMaxExtentSparse",
                             "twoGbMaxExtentFlat", "streamOptimized"}) {
        const auto path =
            qemu_img(fmt::format("{}.vmdk", kind), fmt::format("-f vmdk -o subformat={}", kind));
        Disk disk{.path = path, .format = DiskFormat::kVmdk, .read_only = true};
        ASSERT_EQ(error(disk), "accepted") << kind;
        EXPECT_EQ(inspect_disk_image(disk).virtual_size, 8u << 20) << kind;
    }
}

TEST_F(DiskImageTest, VmdkNeedsNoParent) {
    qemu_img("parent.vmdk", "-f vmdk");
    EXPECT_THAT(error({.path = qemu_img("child.vmdk", "-f vmdk -b parent.vmdk -F vmdk"),
                       .format = DiskFormat::kVmdk}),
                HasSubstr("depends on a parent image"));
    write("e", std::string(512, 'x'));
    EXPECT_THAT(error({.path = write("p.vmdk", descriptor("RW 1 FLAT \"e\" 0", "12345678")),
                       .format = DiskFormat::kVmdk}),
                HasSubstr("depends on a parent image"));
}

TEST_F(DiskImageTest, VmdkExtentsStayWhereTheyBelong) {
    const auto inside = write("img/layers/one", std::string(1024, 'x'));
    const auto outside = write("secret", std::string(1024, 's'));
    const auto inspect = [&](const std::string& name,
                             std::vector<std::filesystem::path> roots = {}) {
        return error({.path = write("img/d.vmdk", descriptor("RW 2 FLAT \"" + name + "\" 0")),
                      .format = DiskFormat::kVmdk,
                      .read_only = true,
                      .extent_roots = std::move(roots)});
    };
    EXPECT_EQ(inspect("layers/one"), "accepted");
    EXPECT_EQ(inspect(inside), "accepted");
    EXPECT_THAT(inspect("../secret"), HasSubstr("lies outside the image's directory"));
    EXPECT_THAT(inspect(outside), HasSubstr("lies outside the image's directory"));
    std::filesystem::create_symlink("../secret", directory_ / "img/link");
    EXPECT_THAT(inspect("link"), HasSubstr("lies outside the image's directory"));
    EXPECT_EQ(inspect(outside, {"/nonexistent", directory_}), "accepted");
    // A directory whose name merely begins like an allowed one.
    const auto sibling = write("img-other/one", std::string(1024, 'x'));
    EXPECT_THAT(inspect(sibling, {directory_ / "img"}), HasSubstr("lies outside"));
    EXPECT_THAT(inspect("layers/none"), HasSubstr("extent layers/none: No such file"));
    EXPECT_THAT(inspect("layers"), HasSubstr("neither a regular file"));
    for (const char* name : {"nbd:unix:/x", "json:{}", "file:layers/one"})
        EXPECT_THAT(inspect(name), HasSubstr("is not a file name")) << name;
}

TEST_F(DiskImageTest, VmdkExtentSizes) {
    write("e", std::string(1024, 'x'));
    const auto inspect = [&](const std::string& extents) {
        return error({.path = write("d.vmdk", descriptor(extents)),
                      .format = DiskFormat::kVmdk,
                      .read_only = true});
    };
    EXPECT_EQ(inspect("RW 1 FLAT \"e\" 1\nRW 5 ZERO\nRDONLY 2 FLAT \"e\" 0"), "accepted");
    EXPECT_THAT(inspect("RW 2 FLAT \"e\" 1"), HasSubstr("shorter than the image says"));
    EXPECT_THAT(inspect("RW 2 FLAT \"e\" 9007199254740991"), HasSubstr("shorter"));
    EXPECT_THAT(inspect("RW 0 FLAT \"e\" 0"), HasSubstr("damaged: extent size"));
    EXPECT_THAT(inspect("RW -1 FLAT \"e\" 0"), HasSubstr("damaged: extent size"));
    EXPECT_THAT(inspect("RW 18446744073709551615 FLAT \"e\" 0"), HasSubstr("extent size"));
    EXPECT_THAT(inspect("RW 1 FLAT"), HasSubstr("without a file name"));
    EXPECT_THAT(inspect("RW 1 FLAT \"e"), HasSubstr("unterminated"));
    EXPECT_THAT(inspect("RW 1 FLAT \"\""), HasSubstr("empty file name"));
    EXPECT_THAT(inspect("RW 1 SESPARSE \"e\""), HasSubstr("are not supported"));
    EXPECT_THAT(inspect("RW 1 SPARSE \"e\""), HasSubstr("is not a sparse vmdk extent"));
    EXPECT_THAT(inspect("what is this"), HasSubstr("damaged: line"));
    EXPECT_EQ(inspect(""), "the vmdk image is empty");
}

// sscanf, which the engine reads descriptors with, takes more for white space than blanks: such a
// line would be an extent for it and a setting for us.
TEST_F(DiskImageTest, VmdkHiddenExtents) {
    for (const char* line : {"RW\v2\vFLAT \"/etc/shadow\" 0 =", "RW\r2 FLAT \"/etc/shadow\" 0 =",
                             "RW\f2\fFLAT \"/etc/shadow\" 0 ="})
        EXPECT_THAT(error({.path = write("d.vmdk", descriptor(line)),
                           .format = DiskFormat::kVmdk,
                           .read_only = true}),
                    HasSubstr("control character"));
    write("e", std::string(512, 'x'));
    EXPECT_EQ(error({.path = write("d.vmdk", descriptor("RW 1 FLAT \"e\" 0\r")),
                     .format = DiskFormat::kVmdk,
                     .read_only = true}),
              "accepted");
}

// A sparse header without capacity makes the engine read a descriptor from inside it.
TEST_F(DiskImageTest, VmdkNestedDescriptor) {
    const auto path = qemu_img("s.vmdk", "-f vmdk");
    patch(path, 12, std::string(8, '\0'));
    EXPECT_EQ(error({.path = path, .format = DiskFormat::kVmdk, .read_only = true}),
              "the vmdk header is damaged");
    EXPECT_EQ(error({.path = write("d.vmdk", descriptor("RW 16384 SPARSE \"s.vmdk\"")),
                     .format = DiskFormat::kVmdk,
                     .read_only = true}),
              "the vmdk header is damaged");
}

TEST_F(DiskImageTest, VmdkLimits) {
    write("e", std::string(512, 'x'));
    std::string extents;
    for (std::size_t i = 0; i <= kMaxVmdkExtents; ++i)
        extents += "RW 1 FLAT \"e\" 0\n";
    EXPECT_THROW(parse_vmdk_descriptor(extents), DiskImageError);
    EXPECT_THROW(parse_vmdk_descriptor(std::string(kMaxVmdkDescriptorBytes + 1, '\n')),
                 DiskImageError);
    EXPECT_EQ(
        error({.path = write("big.vmdk", "# Disk DescriptorFile\n" + std::string(2 << 20, '\n')),
               .format = DiskFormat::kVmdk,
               .read_only = true}),
        "the vmdk descriptor is too long");
}

}  // namespace
}  // namespace msb::vmm
