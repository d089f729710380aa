// Flat roots: check 8 of spec/images.md section 19, publication, clones.
#include "image/flat_rootfs.h"

#include <fcntl.h>

#include <fstream>
#include <thread>

#include "base/fd.h"
#include "base/hash.h"
#include "disk_fixture.h"
#include "image/ext4_grow.h"
#include "layer_cache.h"

namespace msb::image {
namespace {

class FlatTest : public DiskTest {
  protected:
    FlatReference composed() {
        FlatMaterializer().compose(cache_, manifest_, layers_, false, {});
        std::optional<FlatReference> reference = find_flat(cache_, manifest_, layers_);
        EXPECT_TRUE(reference);
        return *reference;
    }

    Cache cache_{directory_ / "cache"};
    std::string manifest_ =
        "sha256:7738d89be51706c8940e1409697e69f87f572358465df742d4fce1f3a8515d3c";
    std::vector<std::string> layers_ = {add_layer(
        cache_, TarBuilder().add("hello.txt", "hello\n", {.mtime = 014524770400}).finish())};
    std::filesystem::path root_ = directory_ / "rootfs.raw";
};

TEST_F(FlatTest, Golden) {
    FlatReference reference = composed();
    EXPECT_EQ(reference.derivation_digest,
              "sha256:aa30533b255acf767fb02a5d4402cc58fa7303265844a431faa81306b8031d14");
    EXPECT_EQ(reference.uuid, "aa30533b255a4f76bfb02a5d4402cc58");
    EXPECT_EQ(reference.virtual_size_bytes, 268435456U);
    EXPECT_EQ(reference.inode_count, 2U);
    EXPECT_EQ(reference.content_bytes, 6U);
    EXPECT_EQ(reference.artifact_digest,
              "sha256:37be3ce03e2168cd57760975a8adf0df0926652cc6c0b66cc0a43834335f3947");
    expect_clean(cache_.flat_blob(reference.artifact_digest));
    EXPECT_NE(
        debugfs(cache_.flat_blob(reference.artifact_digest), "cat hello.txt").find("\nhello\n"),
        std::string::npos);
    EXPECT_EQ(read_file(cache_.flat_reference(manifest_)),
              "{\n  \"schema\": 1,\n  \"manifest_digest\": \"" + manifest_ +
                  "\",\n  \"derivation_digest\": "
                  "\"sha256:aa30533b255acf767fb02a5d4402cc58fa7303265844a431faa81306b8031d14\",\n"
                  "  \"artifact_digest\": "
                  "\"sha256:37be3ce03e2168cd57760975a8adf0df0926652cc6c0b66cc0a43834335f3947\",\n"
                  "  \"materializer_abi\": 2,\n  \"uuid\": \"aa30533b255a4f76bfb02a5d4402cc58\",\n"
                  "  \"virtual_size_bytes\": 268435456,\n  \"inode_count\": 2,\n"
                  "  \"content_bytes\": 6\n}");
}

// A second layer, hard links, whiteouts, owners: what the guest will see.
TEST_F(FlatTest, LayersAreMerged) {
    std::string body(100'000, 'b');
    layers_.push_back(add_layer(cache_, TarBuilder()
                                            .add("bin/tool", body, {.mode = 04755, .uid = 70000})
                                            .hard_link("bin/again", "bin/tool")
                                            .file("gone", "x")
                                            .symlink("link", std::string(100, 't'))
                                            .finish()));
    layers_.push_back(add_layer(cache_, TarBuilder().file(".wh.gone", "").finish()));
    FlatReference reference = composed();
    std::filesystem::path blob = cache_.flat_blob(reference.artifact_digest);
    EXPECT_EQ(reference.inode_count, 5U);
    EXPECT_EQ(reference.content_bytes, 100'006U);
    expect_clean(blob);
    std::string stat = debugfs(blob, "stat bin/again");
    EXPECT_NE(stat.find("Mode:  04755"), std::string::npos) << stat;
    EXPECT_NE(stat.find("User: 70000"), std::string::npos) << stat;
    EXPECT_NE(stat.find("Links: 2"), std::string::npos) << stat;
    EXPECT_NE(debugfs(blob, "stat gone").find("File not found"), std::string::npos);
    run("debugfs -R 'dump bin/tool " + root_.string() + "' " + blob.string());
    EXPECT_EQ(read_file(root_), body);
}

TEST_F(FlatTest, OnlyAWholeAndRightReferenceCounts) {
    FlatMaterializer flat;
    EXPECT_FALSE(flat.complete(cache_, manifest_, layers_));
    FlatReference reference = composed();
    EXPECT_TRUE(flat.complete(cache_, manifest_, layers_));
    EXPECT_FALSE(flat.complete(cache_, manifest_, {}));  // another derivation

    std::filesystem::path file = cache_.flat_reference(manifest_);
    std::string good = read_file(file);
    auto with = [&](const std::string& from, const std::string& to) {
        std::string text = good;
        text.replace(text.find(from), from.size(), to);
        std::ofstream(file, std::ios::trunc) << text;
        return flat.complete(cache_, manifest_, layers_);
    };
    EXPECT_FALSE(with("\"schema\": 1", "\"schema\": 2"));
    EXPECT_FALSE(with("\"materializer_abi\": 2", "\"materializer_abi\": 1"));
    EXPECT_FALSE(with("7738d89b", "8738d89b"));
    EXPECT_FALSE(with("sha256:37be", "../../etc/37be"));
    EXPECT_FALSE(with("\"uuid\"", "\"duid\""));
    EXPECT_FALSE(with("268435456", "268435457"));
    EXPECT_FALSE(with("{", "["));
    EXPECT_TRUE(with("{", "{"));
    std::filesystem::resize_file(cache_.flat_blob(reference.artifact_digest), 4096);
    EXPECT_FALSE(flat.complete(cache_, manifest_, layers_));
}

TEST_F(FlatTest, DamagedBlobIsReplacedAndAWrongSizeTold) {
    FlatReference reference = composed();
    std::filesystem::path blob = cache_.flat_blob(reference.artifact_digest);
    auto damage = [&] {
        std::fstream file(blob, std::ios::in | std::ios::out);
        file.seekp(123456789);
        file << "damage";
    };
    damage();
    FlatMaterializer().compose(cache_, manifest_, layers_, false, {});
    EXPECT_NE("sha256:" + sha256_hex(read_file(blob)), reference.artifact_digest);  // not looked at
    FlatMaterializer().compose(cache_, manifest_, layers_, true, {});
    EXPECT_EQ("sha256:" + sha256_hex(read_file(blob)), reference.artifact_digest);

    std::filesystem::resize_file(blob, 4096);
    EXPECT_EQ(error_of([&] { FlatMaterializer().compose(cache_, manifest_, layers_, false, {}); }),
              "materialization failed for layer " + manifest_ +
                  ": flat ext4 materialization failed: flat artifact " + blob.string() +
                  " has 4096 bytes, expected 268435456");
}

TEST_F(FlatTest, FailuresCarryTheManifest) {
    std::filesystem::resize_file(cache_.layer_image(layers_[0]), 4096);
    EXPECT_TRUE(error_of([&] { FlatMaterializer().compose(cache_, manifest_, layers_, false, {}); })
                    .starts_with("materialization failed for layer " + manifest_ +
                                 ": flat ext4 materialization failed: not a usable EROFS image: "));
    EXPECT_TRUE(std::filesystem::is_empty(cache_.directory() / "flat/refs"));
    EXPECT_TRUE(std::filesystem::is_empty(cache_.directory() / "tmp"));
}

TEST_F(FlatTest, CancelledCompositionLeavesNothing) {
    std::stop_source stop;
    stop.request_stop();
    EXPECT_EQ(error_of([&] {
                  FlatMaterializer().compose(cache_, manifest_, layers_, false, stop.get_token());
              }),
              "operation cancelled");
    EXPECT_TRUE(std::filesystem::is_empty(cache_.directory() / "tmp"));
}

TEST_F(FlatTest, ConcurrentCompositionsDoTheWorkOnce) {
    std::jthread other([&] { FlatMaterializer().compose(cache_, manifest_, layers_, false, {}); });
    FlatMaterializer().compose(cache_, manifest_, layers_, false, {});
    other.join();
    EXPECT_TRUE(FlatMaterializer().complete(cache_, manifest_, layers_));
}

TEST_F(FlatTest, SizesHaveAMinimum) {
    FlatReference reference = composed();
    EXPECT_EQ(flat_size_mib(reference, {}), 4096U);
    EXPECT_EQ(flat_size_mib(reference, 256), 256U);
    EXPECT_EQ(error_of([&] { flat_size_mib(reference, 255); }),
              "invalid config: flat root disk must be at least 256 MiB for this image (requested "
              "255 MiB)");
    reference.virtual_size_bytes = std::uint64_t{6} << 30;
    EXPECT_EQ(flat_size_mib(reference, {}), 6144U);
}

TEST_F(FlatTest, ClonesAreGrownAndSparse) {
    FlatReference reference = composed();
    for (CloneMode mode : {CloneMode::kAuto, CloneMode::kCopy}) {
        create_flat_root(cache_, reference, root_, 4096, mode);
        EXPECT_EQ(size_of(root_), std::uint64_t{4} << 30);
        EXPECT_LE(allocated(root_), 4U << 20);
        expect_clean(root_);
        EXPECT_NE(debugfs(root_, "cat hello.txt").find("hello\n"), std::string::npos);
    }
    create_flat_root(cache_, reference, root_, 256, CloneMode::kCopy);
    EXPECT_EQ(
        run("cmp " + root_.string() + " " + cache_.flat_blob(reference.artifact_digest).string()),
        "[0]");
    EXPECT_TRUE(grow_flat_root(root_, 300));
    EXPECT_FALSE(grow_flat_root(root_, 300));
    expect_clean(root_);
    EXPECT_TRUE(error_of([&] {
                    grow_flat_root(directory_ / "none", 300);
                }).starts_with("failed to grow flat rootfs: "));
}

// A reflink works or says why it does not; which of the two depends on the file system of /tmp.
TEST_F(FlatTest, ReflinkOnlyIsAReflinkOrAnError) {
    FlatReference reference = composed();
    std::string error =
        error_of([&] { create_flat_root(cache_, reference, root_, 256, CloneMode::kReflink); });
    if (error.empty()) {
        expect_clean(root_);
    } else {
        EXPECT_TRUE(
            error.starts_with("flat rootfs requested clone=reflink, but the clone failed: "))
            << error;
        EXPECT_FALSE(std::filesystem::exists(root_));
        EXPECT_FALSE(std::filesystem::exists(root_.native() + ".part"));
    }
}

}  // namespace
}  // namespace msb::image
