#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/fd.h"
#include "base/hash.h"
#include "image/crc32c.h"
#include "image/erofs_writer.h"
#include "image/layer_ingest.h"
#include "image/vmdk.h"
#include "tar_builder.h"

namespace msb::image {
namespace {

UniqueFd temporary_file() {
    std::string path = "/tmp/msb-image-XXXXXX";
    UniqueFd fd(::mkstemp(path.data()));
    ::unlink(path.c_str());
    return fd;
}

std::string content(int fd) {
    ::lseek(fd, 0, SEEK_SET);
    return read_to_end(fd);
}

// Golden layer G of spec/images.md section 19, check 3.
std::string golden_layer() {
    std::string header(512, '\0');
    header.replace(0, 9, "hello.txt");
    header.replace(100, 7, "0000644");
    header.replace(108, 7, "0000000");
    header.replace(116, 7, "0000000");
    header.replace(124, 11, "00000000006");
    header.replace(136, 11, "14524770400");
    header[156] = '0';
    header.replace(257, 8,
                   std::string("ustar\0"
                               "00",
                               8));
    TarBuilder builder;
    builder.raw(header, "hello\n");
    std::string bytes = builder.finish();
    bytes[155] = ' ';
    return bytes;
}

TEST(Crc32c, IsTheRawChainedForm) {
    EXPECT_EQ(crc32c(0xFFFFFFFF, std::as_bytes(std::span("123456789", 9))), 0x1CF96D7CU);
}

TEST(Erofs, GoldenLayerAndItsFsmeta) {
    std::string tar = golden_layer();
    ASSERT_EQ(sha256_hex(tar), "a5ff992fd1fe3550ddf220b2d79dd3548435a428e561bb1c7b7f92236c2f4cd4");
    StringSource source(tar);
    UniqueFd spool = temporary_file();
    FileTree tree = ingest_layer(source, spool.get());
    UniqueFd out = temporary_file();
    ErofsSummary layer = write_layer_image(tree, spool.get(), out.get());
    EXPECT_EQ(layer.blocks, 3U);
    EXPECT_EQ(sha256_hex(content(out.get())),
              "51f2df33f0bfe7a4ad49df6bcf57dc7acd95e2fd88de914b0efdd047e24da055");

    InodeId file = *tree.lookup(FileTree::kRoot, "hello.txt");
    tree[file].layer = 0;
    tree[file].start_block = 2;
    UniqueFd meta = temporary_file();
    write_fsmeta(tree, std::array{layer.blocks}, meta.get());
    EXPECT_EQ(sha256_hex(content(meta.get())),
              "09367d57c5f0b1bab701a6301871c4a2b061fefd84d278a0d682716423021919");
}

TEST(Vmdk, ExtentsAndGeometryAreExact) {
    std::string text = vmdk_descriptor(
        std::array{VmdkExtent{"/c/a.erofs", 8192}, VmdkExtent{"/c/b.erofs", 12288}});
    EXPECT_NE(text.find("RW 16 FLAT \"/c/a.erofs\" 0\nRW 24 FLAT \"/c/b.erofs\" 0\n"),
              std::string::npos)
        << text;
    EXPECT_NE(text.find("cylinders = \"1\""), std::string::npos);
    text = vmdk_descriptor(std::array{VmdkExtent{"/c/big", std::uint64_t{5} << 30}});
    EXPECT_NE(text.find("RW 4194304 FLAT \"/c/big\" 0\nRW 4194304 FLAT \"/c/big\" 4194304\nRW "
                        "2097152 FLAT \"/c/big\" 8388608\n"),
              std::string::npos)
        << text;
}

}  // namespace
}  // namespace msb::image
