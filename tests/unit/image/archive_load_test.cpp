// load_archive(): what archives give. spec/images.md sections 16.1 and 19.
#include <thread>

#include "archive_fixture.h"
#include "compress.h"
#include "image/http.h"

namespace msb::image {
namespace {

using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;

using ArchiveLoad = ArchiveTest;

std::string golden_archive() {
    std::string layer = golden_layer();
    std::string config =
        R"({"architecture":"amd64","os":"linux","config":{"Cmd":["cat","/hello.txt"]},"rootfs":{"type":"layers","diff_ids":[")" +
        digest_of(layer) + R"("]}})";
    return tar_of({{"manifest.json",
                    R"([{"Config":"c.json","RepoTags":["golden:1"],"Layers":["l/layer.tar"]}])"},
                   {"c.json", config},
                   {"l/layer.tar", layer}});
}

// Checks 3 to 6 of section 19.
TEST_F(ArchiveLoad, GoldenImage) {
    ASSERT_EQ(digest_of(golden_layer()),
              "sha256:a5ff992fd1fe3550ddf220b2d79dd3548435a428e561bb1c7b7f92236c2f4cd4");
    auto loaded = load(golden_archive());
    ASSERT_THAT(names(loaded), ElementsAre("golden:1 loaded"));
    const CachedImage& image = *loaded[0].image;
    EXPECT_EQ(image.manifest_digest,
              "sha256:7738d89be51706c8940e1409697e69f87f572358465df742d4fce1f3a8515d3c");
    EXPECT_EQ(image.config_digest,
              "sha256:02b4255cf71e428cd5e95709e0c1b049c35879a006e76e8c0d246f437522edbe");
    EXPECT_EQ(digest_of(image.raw_manifest_json), image.manifest_digest);
    EXPECT_EQ(image.config.cmd, std::vector<std::string>({"cat", "/hello.txt"}));
    ASSERT_EQ(image.layers.size(), 1U);
    EXPECT_EQ(image.layers[0],
              (CachedLayer{image.layers[0].diff_id, "application/vnd.oci.image.layer.v1.tar", 2048,
                           digest_of(golden_layer())}));
    EXPECT_EQ(file_digest(cache_->layer_image(image.layers[0].diff_id)),
              "51f2df33f0bfe7a4ad49df6bcf57dc7acd95e2fd88de914b0efdd047e24da055");
    EXPECT_EQ(file_digest(cache_->fsmeta(image.manifest_digest)),
              "09367d57c5f0b1bab701a6301871c4a2b061fefd84d278a0d682716423021919");
    EXPECT_EQ(
        find_cached_image(*cache_, parse_reference("golden:1"), PullTarget::kLayered, nullptr),
        image);
    EXPECT_THAT(files("tmp"), IsEmpty());
}

TEST_F(ArchiveLoad, EventsInOrder) {
    load(golden_archive());
    EXPECT_THAT(events_, ElementsAre("layerMaterializeStarted", "layerMaterializeProgress",
                                     "layerMaterializeWriting", "layerMaterializeComplete",
                                     "stitchMergingTrees", "stitchWritingFsmeta",
                                     "stitchWritingVmdk", "stitchComplete"));
    events_.clear();
    EXPECT_THAT(names(load(golden_archive())), ElementsAre("golden:1 cached"));
    EXPECT_THAT(events_, IsEmpty());
}

TEST_F(ArchiveLoad, FromAPipeAndCompressedAsAWhole) {
    std::string plain = golden_archive();
    int round = 0;
    for (const std::string& archive : {plain, gzip(plain), zstd(plain)}) {
        for (bool piped : {false, true}) {
            cache_.emplace(directory_ / std::to_string(round++));
            UniqueFd file = file_of(archive);
            PipeFds pipe = make_pipe();
            std::jthread writer([&] {
                EXPECT_EQ(write_all(pipe.write.get(), archive), 0);
                pipe.write.reset();
            });
            auto loaded = load_archive(*cache_, piped ? pipe.read.get() : file.get(), options_);
            EXPECT_THAT(names(loaded), ElementsAre("golden:1 loaded"));
            EXPECT_THAT(files("tmp"), IsEmpty());
            if (!piped) read_to_end(pipe.read.get());
        }
    }
}

TEST_F(ArchiveLoad, AFileIsReadFromItsOffset) {
    UniqueFd fd = file_of("something else" + golden_archive());
    ASSERT_EQ(::lseek(fd.get(), 14, SEEK_SET), 14);
    EXPECT_THAT(names(load_archive(*cache_, fd.get(), options_)), ElementsAre("golden:1 loaded"));
}

TEST_F(ArchiveLoad, APipeIsReadToItsEnd) {
    PipeFds pipe = make_pipe();
    std::string archive = golden_archive() + std::string(1 << 20, '\0');
    int written = -1;
    std::jthread writer([&] {
        written = write_all(pipe.write.get(), archive);
        pipe.write.reset();
    });
    load_archive(*cache_, pipe.read.get(), options_);
    pipe.read.reset();
    writer.join();
    EXPECT_EQ(written, 0);
}

TEST_F(ArchiveLoad, LayersOfEveryCompression) {
    std::string tar = golden_layer();
    for (const std::string& stored : {gzip(tar), zstd(tar)}) {
        OciBuilder oci;
        auto image = oci.add_image({tar}, "packed:" + std::to_string(stored.size()), {stored});
        auto loaded = load(oci.archive({image.descriptor}));
        ASSERT_EQ(loaded.size(), 1U);
        const CachedLayer& layer = loaded[0].image->layers[0];
        EXPECT_EQ(layer.digest, digest_of(stored));
        // What it is, not what the manifest says.
        EXPECT_EQ(layer.media_type, stored == gzip(tar)
                                        ? "application/vnd.oci.image.layer.v1.tar+gzip"
                                        : "application/vnd.oci.image.layer.v1.tar+zstd");
        EXPECT_EQ(loaded[0].image->raw_manifest_json, image.manifest);
        EXPECT_EQ(loaded[0].image->manifest_digest, digest_of(image.manifest));
    }
}

TEST_F(ArchiveLoad, NamesAndTags) {
    std::string layer = golden_layer();
    Json entries = Json::array();
    entries.push_back(
        {{"Config", "c"}, {"RepoTags", {"b:1", "a:1", "<none>:<none>", "b:1"}}, {"Layers", {"l"}}});
    entries.push_back({{"Config", "d"}, {"RepoTags", {"A/../x"}}, {"Layers", {"l"}}});
    entries[1]["RepoTags"] = {"second"};
    std::string archive = tar_of({{"manifest.json", entries.dump()},
                                  {"c", config_of({layer}, "first")},
                                  {"d", config_of({layer}, "second")},
                                  {"l", layer}});
    options_.tags = {"z:9", "a:1"};
    auto loaded = load(archive);
    EXPECT_THAT(names(loaded),
                ElementsAre("a:1 loaded", "b:1 loaded", "z:9 loaded", "second loaded"));
    EXPECT_EQ(loaded[0].image, loaded[2].image);
    EXPECT_NE(loaded[0].image->manifest_digest, loaded[3].image->manifest_digest);
    EXPECT_EQ(files("manifests").size(), 4U);
}

TEST_F(ArchiveLoad, ABareAnnotationIsAReference) {
    OciBuilder oci;
    auto image = oci.add_image({golden_layer()}, "latest");
    EXPECT_THAT(names(load(oci.archive({image.descriptor}))), ElementsAre("latest loaded"));
    EXPECT_TRUE(std::filesystem::exists(
        cache_->metadata(parse_reference("docker.io/library/latest:latest"))));
}

TEST_F(ArchiveLoad, TwoSpellingsOfOneName) {
    EXPECT_THAT(names(load(docker_archive({golden_layer()}, {"x", "docker.io/library/x:latest"}))),
                ElementsAre("docker.io/library/x:latest loaded", "x loaded"));
    EXPECT_EQ(files("manifests").size(), 1U);
}

TEST_F(ArchiveLoad, NestedIndexesAndPlatforms) {
    OciBuilder oci;
    Json own = oci.add_image({golden_layer()}, "", {}, "one").descriptor;
    Json named = oci.add_image({golden_layer()}, "own-name", {}, "two").descriptor;
    Json foreign = oci.add_image({golden_layer()}, "foreign", {}, "three").descriptor;
    foreign["platform"] = {{"architecture", "s390x"}, {"os", "linux"}};
    own["platform"] = {{"architecture", host_platform().architecture}, {"os", "linux"}};
    Json artifact = named;
    artifact["mediaType"] = "application/vnd.example+json";
    Json inner = oci.add_blob("application/vnd.oci.image.index.v1+json",
                              OciBuilder::index_of({foreign, artifact, own}));
    inner["annotations"] = {{"org.opencontainers.image.ref.name", "outer-name"}};
    EXPECT_THAT(names(load(oci.archive({inner, named}))),
                ElementsAre("outer-name loaded", "own-name loaded"));
}

TEST_F(ArchiveLoad, FirstOfTwoMembersWinsAndDotsMeanNothing) {
    std::string layer = golden_layer();
    auto manifest = [](const char* tag) {
        return std::string(R"([{"Config":"c","RepoTags":[")") + tag + R"("],"Layers":["l"]}])";
    };
    EXPECT_THAT(names(load(tar_of({{"./manifest.json", manifest("first")},
                                   {"manifest.json", manifest("second")},
                                   {"c", config_of({layer})},
                                   {"./l", layer}}))),
                ElementsAre("first loaded"));
}

// `docker save` before version 25 stored a layer that occurs twice as a link.
TEST_F(ArchiveLoad, LinksToOtherMembers) {
    std::string layer = golden_layer();
    std::string archive =
        TarBuilder()
            .file("a/layer.tar", layer)
            .symlink("b/layer.tar", "../a/layer.tar")
            .hard_link("c/layer.tar", "a/layer.tar")
            .file("config", config_of({layer, layer, layer}))
            .file(
                "manifest.json",
                R"([{"Config":"config","RepoTags":["x"],"Layers":["a/layer.tar","b/layer.tar","c/layer.tar"]}])")
            .finish();
    auto loaded = load(archive);
    EXPECT_EQ(loaded.at(0).image->layers.size(), 3U);
    EXPECT_EQ(std::ranges::count(events_, "layerMaterializeStarted"), 1);
}

TEST_F(ArchiveLoad, ACompleteImageIsNotReadAgain) {
    std::string archive = docker_archive({golden_layer()}, {"x:1"});
    std::string digest = load(archive).at(0).image->manifest_digest;
    std::size_t at = archive.find("hello\n");
    archive.replace(at, 6, "HELLO\n");  // it would not pass
    EXPECT_THAT(names(load(archive)), ElementsAre("x:1 cached"));
    options_.tags = {"new:1"};
    auto loaded = load(archive);
    EXPECT_THAT(names(loaded), ElementsAre("new:1 loaded", "x:1 cached"));
    EXPECT_EQ(loaded[0].image->manifest_digest, digest);
    // ... but an image whose layer is gone is.
    std::filesystem::remove(cache_->layer_image(digest_of(golden_layer())));
    EXPECT_EQ(failure(archive).substr(0, 25), "digest mismatch for layer");
}

TEST_F(ArchiveLoad, ACachedLayerIsNotMadeAgain) {
    load(docker_archive({golden_layer()}, {"x:1"}));
    events_.clear();
    auto loaded = load(docker_archive({golden_layer()}, {"y:1"}, "another config"));
    EXPECT_EQ(loaded[0].image->layers[0].digest, digest_of(golden_layer()));
    EXPECT_EQ(events_.front(), "layerMaterializeComplete");
}

// fsmeta of an image whose layer was made anew could describe another image of that layer.
TEST_F(ArchiveLoad, CompositionFollowsItsLayers) {
    std::string archive = docker_archive({golden_layer()}, {"x:1"});
    std::string digest = load(archive)[0].image->manifest_digest;
    std::filesystem::remove(cache_->layer_image(digest_of(golden_layer())));
    events_.clear();
    load(archive);
    EXPECT_THAT(events_, Contains("stitchWritingFsmeta"));
    std::filesystem::remove(cache_->vmdk(digest));
    events_.clear();
    load(archive);
    EXPECT_THAT(events_,
                ElementsAre("layerMaterializeComplete", "stitchWritingVmdk", "stitchComplete"));
}

TEST_F(ArchiveLoad, NoLayersAtAll) {
    EXPECT_THAT(names(load(docker_archive({}, {"empty:1"}))), ElementsAre("empty:1 loaded"));
}

TEST_F(ArchiveLoad, ConcurrentLoadsDoTheWorkOnce) {
    std::vector<std::string> layers;
    for (int i = 0; i < 4; ++i)
        layers.push_back(
            TarBuilder().file("f" + std::to_string(i), std::string(300'000, 'x')).finish());
    std::string archive = docker_archive(layers, {"x:1", "y:1"});
    std::vector<std::string> lines;
    std::mutex mutex;
    {
        std::vector<std::jthread> loaders;
        for (int i = 0; i < 4; ++i) {
            loaders.emplace_back([&] {
                LoadOptions options;
                options.events = [&](const PullEvent& event) {
                    std::lock_guard guard(mutex);
                    events_.emplace_back(to_string(event.kind));
                };
                UniqueFd fd = file_of(archive);
                auto result = names(load_archive(*cache_, fd.get(), options));
                std::lock_guard guard(mutex);
                std::ranges::move(result, std::back_inserter(lines));
            });
        }
    }
    EXPECT_EQ(std::ranges::count(lines, "x:1 loaded"), 1);
    EXPECT_EQ(std::ranges::count(lines, "x:1 cached"), 3);
    EXPECT_EQ(std::ranges::count(lines, "y:1 loaded"), 1);
    EXPECT_EQ(std::ranges::count(events_, "layerMaterializeStarted"), 4);
    EXPECT_EQ(std::ranges::count(events_, "stitchComplete"), 1);
}

TEST_F(ArchiveLoad, StopsWhileAPipeIsSilent) {
    PipeFds pipe = make_pipe();
    ASSERT_EQ(write_all(pipe.write.get(), golden_archive().substr(0, 700)), 0);
    std::stop_source source;
    options_.stop = source.get_token();
    std::jthread stopper([&] { source.request_stop(); });
    try {
        load_archive(*cache_, pipe.read.get(), options_);
        FAIL() << "loaded half an archive";
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), ErrorCode::kCancelled);
    }
}

TEST_F(ArchiveLoad, StopsWithinALayer) {
    std::string layer = TarBuilder().file("big", std::string(8 << 20, 'x')).finish();
    std::stop_source source;
    options_.stop = source.get_token();
    options_.events = [&](const PullEvent& event) {
        if (event.kind == PullEvent::Kind::kLayerMaterializeStarted) source.request_stop();
    };
    EXPECT_THROW(
        {
            try {
                load(docker_archive({layer}, {"x:1"}));
            } catch (const Error& e) {
                EXPECT_EQ(e.code(), ErrorCode::kCancelled);
                throw;
            }
        },
        Error);
    EXPECT_THAT(files("layers"), IsEmpty());
    EXPECT_THAT(files("manifests"), IsEmpty());
    EXPECT_THAT(files("tmp"), IsEmpty());
}

}  // namespace
}  // namespace msb::image
