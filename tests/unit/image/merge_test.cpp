#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/error.h"
#include "base/fd.h"
#include "image/erofs_reader.h"
#include "image/erofs_writer.h"
#include "image/layer_ingest.h"
#include "image/layer_merge.h"
#include "tar_builder.h"

namespace msb::image {
namespace {

using testing::ElementsAre;

UniqueFd temporary_file() {
    std::string path = "/tmp/msb-image-XXXXXX";
    UniqueFd fd(::mkstemp(path.data()));
    ::unlink(path.c_str());
    return fd;
}

// The tree after a trip through its EROFS image, as the cache would give it back.
FileTree through_erofs(const std::string& tar, std::uint32_t layer = 0) {
    StringSource source(tar);
    UniqueFd spool = temporary_file();
    FileTree tree = ingest_layer(source, spool.get());
    UniqueFd out = temporary_file();
    write_layer_image(tree, spool.get(), out.get());
    return ErofsReader::from_fd(out.get()).load(layer);
}

std::string ingest_error(const std::string& tar) {
    StringSource source(tar);
    UniqueFd spool = temporary_file();
    try {
        ingest_layer(source, spool.get());
    } catch (const Error& e) {
        return e.detail();
    }
    return "ingested";
}

InodeId at(const FileTree& tree, std::initializer_list<const char*> path) {
    InodeId id = FileTree::kRoot;
    for (const char* name : path) {
        const InodeId* child = tree.lookup(id, name);
        if (child == nullptr) throw std::out_of_range(name);
        id = *child;
    }
    return id;
}

std::vector<std::string> names(const FileTree& tree, InodeId directory) {
    std::vector<std::string> list;
    for (const auto& [name, child] : tree[directory].children)
        list.push_back(name);
    return list;
}

// Check 12 of spec/images.md section 19.
TEST(Merge, WhiteoutsAndOpaqueDirectories) {
    FileTree bottom =
        through_erofs(TarBuilder().file("etc/removed", "x").file("opq/old", "x").finish(), 0);
    FileTree top = through_erofs(TarBuilder()
                                     .file("etc/.wh.removed", "")
                                     .file("opq/.wh..wh..opq", "")
                                     .file("opq/new", "y")
                                     .finish(),
                                 1);
    EXPECT_TRUE(top[at(top, {"etc", "removed"})].is_whiteout());
    EXPECT_TRUE(has_xattr(top[at(top, {"opq"})], kOpaqueXattr));

    std::array layers{std::move(bottom), std::move(top)};
    FileTree merged = merge_layers(layers);
    EXPECT_THAT(names(merged, at(merged, {"etc"})), ElementsAre());
    EXPECT_THAT(names(merged, at(merged, {"opq"})), ElementsAre("new"));
    EXPECT_FALSE(has_xattr(merged[at(merged, {"opq"})], kOpaqueXattr));
    EXPECT_EQ(merged[at(merged, {"opq"})].mode, S_IFDIR | 0755U);
    EXPECT_EQ(merged[at(merged, {"opq", "new"})].layer, 1U);
}

TEST(Merge, LinkCountsAreOfTheResult) {
    FileTree bottom = through_erofs(
        TarBuilder().file("d/a", "x").hard_link("e/b", "d/a").hard_link("c", "d/a").finish());
    EXPECT_EQ(bottom[at(bottom, {"c"})].links, 3U);
    FileTree top = through_erofs(
        TarBuilder().file("d/.wh..wh..opq", "").directory("d").file(".wh.c", "").finish(), 1);
    // The marker stands before "d/": the directory entry clears it again (check 13), so only the whiteout counts.
    std::array first{bottom, top};
    EXPECT_EQ(merge_layers(first)[at(merge_layers(first), {"e", "b"})].links, 2U);
    FileTree opaque = through_erofs(
        TarBuilder().directory("d").file("d/.wh..wh..opq", "").file(".wh.c", "").finish(), 1);
    std::array second{bottom, opaque};
    FileTree merged = merge_layers(second);
    EXPECT_EQ(merged[at(merged, {"e", "b"})].links, 1U);
    EXPECT_EQ(names(merged, at(merged, {"d"})).size(), 0U);
}

TEST(Ingest, KindsOfEntries) {
    FileTree tree = through_erofs(
        TarBuilder()
            .add("./dev/null", "", {.type = '3', .mode = 0666, .major = 1, .minor = 3})
            .add("dev/sda", "", {.type = '4', .mode = 0660, .major = 8, .minor = 300})
            .add("fifo", "", {.type = '6', .mode = 0600})
            .symlink("link", "../target with space")
            .add("f", "data", {.mode = 04755, .uid = 1000, .gid = 1001, .mtime = 1700000000})
            .file("name\xff\xfe", "not UTF-8")
            .finish());
    const Inode& null = tree[at(tree, {"dev", "null"})];
    EXPECT_EQ(null.mode, S_IFCHR | 0666U);
    EXPECT_EQ(null.device_minor, 3U);
    const Inode& disk = tree[at(tree, {"dev", "sda"})];
    EXPECT_EQ(disk.device_major, 8U);
    EXPECT_EQ(disk.device_minor, 300U);
    EXPECT_EQ(tree[at(tree, {"link"})].target, "../target with space");
    const Inode& file = tree[at(tree, {"f"})];
    EXPECT_EQ(file.mode, S_IFREG | 04755U);
    EXPECT_EQ(file.uid, 1000U);
    EXPECT_EQ(file.gid, 1001U);
    EXPECT_EQ(file.mtime, 1700000000);
    EXPECT_EQ(tree[at(tree, {"name\xff\xfe"})].size, 9U);
}

TEST(Ingest, LaterEntriesReplaceEarlierOnes) {
    FileTree tree = through_erofs(TarBuilder()
                                      .file("a", "old")
                                      .file("a", "newer")
                                      .file("b", "x")
                                      .directory("b", 0700)
                                      .finish());
    EXPECT_EQ(tree[at(tree, {"a"})].size, 5U);
    EXPECT_EQ(tree[at(tree, {"b"})].mode, S_IFDIR | 0700U);
    EXPECT_EQ(ingest_error(TarBuilder().directory("d").file("d", "x").finish()),
              "file tree error: entry already exists: \"d\"");
    EXPECT_EQ(ingest_error(TarBuilder().file("f", "x").file("f/g", "x").finish()),
              "file tree error: not a directory: \"f\"");
}

TEST(Ingest, HostilePathsAreRefused) {
    EXPECT_EQ(ingest_error(TarBuilder().file("a/../b", "").finish()),
              "path traversal in tar: \"a/../b\"");
    EXPECT_EQ(ingest_error(TarBuilder().file("../b", "").finish()),
              "path traversal in tar: \"../b\"");
    EXPECT_EQ(ingest_error(TarBuilder().hard_link("h", "nowhere").finish()),
              "hardlink target not found: \"nowhere\"");
    EXPECT_EQ(ingest_error(TarBuilder().directory("d").hard_link("h", "d").finish()),
              "hardlink target is not a regular file: \"d\"");
    EXPECT_EQ(ingest_error(TarBuilder().symlink("l", "").finish()),
              "invalid tar entry: symlink with no target");
    auto deep = [](int depth) {
        std::string path = "d";
        for (int i = 1; i < depth; ++i)
            path += "/d";
        return TarBuilder().pax("path", path).file("x", "").finish();
    };
    EXPECT_EQ(ingest_error(deep(128)), "ingested");
    EXPECT_THAT(ingest_error(deep(129)), testing::StartsWith("path too deep"));
    EXPECT_EQ(ingest_error(TarBuilder().pax("path", std::string(255, 'n')).file("x", "").finish()),
              "ingested");
    EXPECT_THAT(
        ingest_error(TarBuilder().pax("path", std::string(256, 'n')).file("x", "").finish()),
        testing::StartsWith("path too long"));
    EXPECT_EQ(ingest_error(TarBuilder().pax("size", "6000000000").file("big", "").finish()),
              "file too large: \"big\"");
}

TEST(Ingest, DotComponentsMeanNothing) {
    FileTree tree = through_erofs(TarBuilder().file("a/./b", "x").file("././c//d", "y").finish());
    EXPECT_THAT(names(tree, FileTree::kRoot), ElementsAre("a", "c"));
    EXPECT_THAT(names(tree, at(tree, {"a"})), ElementsAre("b"));
}

TEST(Ingest, BrokenArchives) {
    std::string whole = TarBuilder().file("f", std::string(1000, 'x')).finish();
    EXPECT_EQ(ingest_error(whole.substr(0, 700)),
              "unexpected EOF while reading archive entry data");
    EXPECT_EQ(ingest_error(whole.substr(0, 100)),
              "unexpected EOF while reading archive entry data");
    EXPECT_EQ(ingest_error(whole.substr(0, 512 + 1024)),
              "ingested");  // EOF on a header boundary is an end
    EXPECT_EQ(ingest_error(""), "ingested");
    std::string corrupt = whole;
    corrupt[0] = 'g';
    EXPECT_EQ(ingest_error(corrupt), "archive header checksum mismatch");
    std::string bad_length = TarBuilder().pax("path", "x").bytes();
    bad_length.replace(512, 2, "99");
    EXPECT_EQ(ingest_error(bad_length), "malformed pax extension");
}

TEST(Ingest, PaxOverridesAndKeptXattrs) {
    FileTree tree = through_erofs(
        TarBuilder()
            .pax("path", std::string(150, 'p'))
            .file("short", "x")
            .pax("uid", "3000000")
            .file("owned", "x")
            .pax("SCHILY.xattr.security.capability", std::string("\x01\x00\x00\x02", 4))
            .file("cap", "x")
            .pax("SCHILY.xattr.trusted.overlay.opaque", "y")
            .directory("sneaky")
            .finish());
    EXPECT_EQ(tree[at(tree, {std::string(150, 'p').c_str()})].size, 1U);
    EXPECT_EQ(tree[at(tree, {"owned"})].uid, 3000000U);
    EXPECT_EQ(tree[at(tree, {"cap"})].xattrs,
              (std::vector<Xattr>{{"security.capability", std::string("\x01\x00\x00\x02", 4)}}));
    EXPECT_TRUE(tree[at(tree, {"sneaky"})].xattrs.empty());
}

TEST(Erofs, ReaderRefusesDamage) {
    std::string tar = TarBuilder().file("d/f", "hello").symlink("l", "t").finish();
    StringSource source(tar);
    UniqueFd spool = temporary_file();
    FileTree tree = ingest_layer(source, spool.get());
    UniqueFd out = temporary_file();
    write_layer_image(tree, spool.get(), out.get());
    ::lseek(out.get(), 0, SEEK_SET);
    std::string image = read_to_end(out.get());
    // Any single damaged word gives an error or another tree, never a crash or a read outside the image.
    std::size_t refused = 0;
    for (std::size_t word = 1024; word + 4 <= 8192; word += 4) {
        for (unsigned char fill : {0x00, 0xff, 0x7f}) {
            std::string damaged = image;
            damaged.replace(word, 4, std::string(4, static_cast<char>(fill)));
            try {
                ErofsReader(std::as_bytes(std::span(damaged))).load();
            } catch (const Error&) {
                ++refused;
            }
        }
    }
    EXPECT_GT(refused, 20U);
    EXPECT_THROW(ErofsReader(std::as_bytes(std::span(image).first(4095))), Error);
}

}  // namespace
}  // namespace msb::image
