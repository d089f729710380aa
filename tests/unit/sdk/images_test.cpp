// Images as the SDK offers them, and sandboxes made from them with a stand-in for the sandbox process.
#include <microsandbox/image.h>
#include <microsandbox/sandbox.h>

#include <thread>

#include "../image/archive_fixture.h"
#include "sdk/image_store.h"
#include "sdk_fixture.h"
#include "state/image_rows.h"

namespace msb::test {
namespace {

using namespace microsandbox;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;
namespace fs = std::filesystem;

class ImagesTest : public HomeTest {
  protected:
    ImagesTest() {
        ::setenv("MSB_PATH", FAKE_MSB, 1);
        ::setenv("FAKE_MSB_MODE", "", 1);
        ::setenv("FAKE_MSB_REPORT", (home_ / "report").c_str(), 1);
    }
    ~ImagesTest() override {
        ::unsetenv("FAKE_MSB_MODE");
        ::unsetenv("FAKE_MSB_REPORT");
    }

    // Loads an image of one layer holding `content`, with an optional image config.
    ImageInfo load(const std::vector<std::string>& tags, const std::string& content = "x",
                   const image::Json& config = {{"Cmd", {"sh"}}}) {
        const std::string layer = image::TarBuilder().file("file", content).finish();
        image::Json document = image::Json::parse(image::config_of({layer}));
        document["config"] = config;
        const image::Json entry = {
            {"Config", "config.json"}, {"RepoTags", tags}, {"Layers", {"layer.tar"}}};
        const fs::path archive = write(
            "archive.tar", image::tar_of({{"manifest.json", image::Json::array({entry}).dump()},
                                          {"config.json", document.dump()},
                                          {"layer.tar", layer}}));
        return Image::load(archive).front();
    }
    std::vector<std::string> references() {
        std::vector<std::string> names;
        for (const ImageInfo& info : Image::list())
            names.push_back(info.reference);
        return names;
    }
    // Files below the cache but for locks.
    std::vector<std::string> cache_files() {
        std::vector<std::string> found;
        for (const auto& entry : fs::recursive_directory_iterator(home_ / "cache")) {
            if (entry.is_regular_file() && entry.path().extension() != ".lock")
                found.push_back(fs::relative(entry.path(), home_ / "cache").string());
        }
        std::ranges::sort(found);
        return found;
    }
    SandboxBuilder box(const std::string& reference, const std::string& name = "box") {
        return Sandbox::builder(name).image(reference).pull_policy(PullPolicy::kNever);
    }
    static std::string text_of(const std::function<void()>& body) {
        try {
            body();
        } catch (const Error& error) {
            return error.what();
        }
        return "(no error)";
    }
    state::SandboxConfig stored(const std::string& name = "box") {
        return state::parse_sandbox_config(state::get_sandbox(backend().database(), name).config);
    }
};

TEST_F(ImagesTest, LoadListInspectRemove) {
    const ImageInfo loaded =
        load({"app:1"}, "x", {{"Cmd", {"run"}}, {"Env", {"A=b"}}, {"Labels", {{"k", "v"}}}});
    EXPECT_EQ(loaded.reference, "app:1");
    EXPECT_EQ(loaded.layer_count, 1u);
    EXPECT_THAT(references(), ElementsAre("app:1"));
    const ImageDetail detail = Image::inspect("app:1");
    EXPECT_EQ(detail.image.manifest_digest, loaded.manifest_digest);
    ASSERT_TRUE(detail.config);
    EXPECT_THAT(*detail.config->cmd, ElementsAre("run"));
    EXPECT_THAT(detail.config->env, ElementsAre("A=b"));
    EXPECT_EQ(detail.config->labels.at("k"), "v");
    ASSERT_THAT(detail.layers, SizeIs(1));
    EXPECT_THAT(cache_files(), SizeIs(4)) << "metadata, layer, fsmeta, VMDK";

    const PulledImage pulled = Image::pull("app:1");
    EXPECT_TRUE(pulled.cached) << "nobody was asked";
    EXPECT_EQ(pulled.manifest_digest, loaded.manifest_digest);

    Image::remove("app:1");
    EXPECT_THAT(references(), ElementsAre());
    EXPECT_THAT(cache_files(), ElementsAre());
    EXPECT_EQ(text_of([] { Image::remove("app:1"); }), "image not found: app:1");
    EXPECT_EQ(text_of([] { Image::inspect("app:1"); }), "image not found: app:1");
}

TEST_F(ImagesTest, LayersAndNamesThatOthersUseStay) {
    load({"a:1"}, "one");
    load({"docker.io/library/a:1", "b:1"}, "one");
    load({"c:1"}, "other");
    Image::remove("a:1");
    EXPECT_EQ(Image::pull("docker.io/library/a:1").cached, true)
        << "the other spelling still has its metadata file";
    Image::remove("docker.io/library/a:1");
    EXPECT_TRUE(Image::pull("b:1").cached);
    Image::remove("b:1");
    EXPECT_THAT(cache_files(), SizeIs(4)) << "c:1 alone";
    EXPECT_TRUE(Image::pull("c:1").cached);
}

TEST_F(ImagesTest, SavedImagesCanBeLoadedElsewhere) {
    load({"app:1"}, "content");
    const fs::path archive = home_ / "saved.tar";
    Image::save({"app:1"}, archive, ArchiveFormat::kOci);
    Image::remove("app:1");
    const std::vector<ImageInfo> loaded = Image::load(archive, {"extra:2"});
    ASSERT_THAT(loaded, SizeIs(2));
    EXPECT_THAT(references(), ::testing::UnorderedElementsAre("app:1", "extra:2"));
    EXPECT_EQ(text_of([&] { Image::save({"no:1"}, archive); }), "image not found: no:1");
    EXPECT_TRUE(fs::exists(archive)) << "a failed save leaves the old file";
}

TEST_F(ImagesTest, ASandboxTakesOverItsImage) {
    load({"app:1"}, "x",
         {{"Cmd", {"serve", "-v"}},
          {"Entrypoint", {"/entry"}},
          {"Env", {"A=image", "B=image"}},
          {"User", "1000"},
          {"Labels", {{"k", "v"}, {"sandbox.evil", "x"}}}});
    Sandbox sandbox = box("app:1").env("A", "mine").root_disk(256).create();
    const state::SandboxConfig config = stored();
    EXPECT_EQ(config.manifest_digest, Image::get("app:1").manifest_digest);
    EXPECT_THAT(*config.runtime.cmd, ElementsAre("serve", "-v"));
    EXPECT_THAT(*config.runtime.entrypoint, ElementsAre("/entry"));
    EXPECT_EQ(config.runtime.user, "1000");
    EXPECT_EQ(config.env, (std::vector<state::EnvVar>{{"B", "image"}, {"A", "mine"}}));
    EXPECT_EQ(config.labels, (std::map<std::string, std::string>{{"k", "v"}}));
    ASSERT_EQ(config.mounts.size(), 1u);
    EXPECT_EQ(state::guest_path(config.mounts[0]), "/tmp");
    EXPECT_EQ(fs::file_size(home_ / "sandboxes/box/upper.ext4"), 256u << 20);
    EXPECT_EQ(text_of([] { Image::remove("app:1"); }), "image in use by sandbox(es): 1");
    EXPECT_EQ(Image::prune().image_refs_removed, 0u);
    sandbox.stop();
    EXPECT_EQ(Image::prune().image_refs_removed, 0u) << "it will start again";
    Sandbox::start("box").stop();
    Sandbox::remove("box");
    const ImagePruneReport report = Image::prune();
    EXPECT_EQ(report.image_refs_removed, 1u);
    EXPECT_EQ(report.vmdk_removed, 1u);
    EXPECT_GT(report.bytes_reclaimed.value_or(0), 8192u);
    EXPECT_THAT(cache_files(), ElementsAre());
    EXPECT_FALSE(Image::prune().bytes_reclaimed);
}

TEST_F(ImagesTest, ABackgroundWorkloadIsTheImages) {
    load({"app:1"}, "x", {{"Entrypoint", {"/entry"}}, {"Cmd", {"default"}}});
    Sandbox sandbox = box("app:1").startup({"mine"}).create_detached();
    std::ifstream in(home_ / "report");
    const std::string report{std::istreambuf_iterator<char>(in), {}};
    EXPECT_THAT(report, HasSubstr("startup_cmd=/entry"));
    EXPECT_THAT(*stored().runtime.cmd, ElementsAre("mine"));
    sandbox.stop();
}

TEST_F(ImagesTest, AnImagesInitGetsTheCommand) {
    load({"app:1"}, "x", {{"Entrypoint", {"/init"}}, {"Cmd", {"default"}}});
    Sandbox sandbox =
        box("app:1").init("auto").foreground(std::vector<std::string>{"mine"}).create();
    EXPECT_TRUE(sandbox.init_owns_command());
    const state::SandboxConfig config = stored();
    EXPECT_EQ(config.init->cmd, "/init");
    EXPECT_TRUE(config.init->args.empty()) << "what it was given to run is never stored";
    EXPECT_FALSE(config.runtime.entrypoint);
    sandbox.stop();
}

TEST_F(ImagesTest, WhatCannotBeMadeLeavesNothing) {
    EXPECT_EQ(text_of([&] { box("nope:1").create(); }),
              "image error: image not cached: docker.io/library/nope:1");
    EXPECT_EQ(text_of([&] { box(":::").create(); }),
              "invalid config: invalid image reference: invalid reference format");
    load({"app:1"});
    EXPECT_EQ(text_of([&] { box("app:1").patch(PatchText{"/file", "y", {}, false}).create(); }),
              "patch failed: path exists in image layer: '/file' (set replace to allow)");
    EXPECT_EQ(text_of([&] { box("app:1").root_disk(130).create(); }).substr(0, 45),
              "failed to create upper.ext4: invalid ext4 ima");
    EXPECT_FALSE(fs::exists(home_ / "sandboxes/box"));
    EXPECT_EQ(text_of([] { Sandbox::get("box"); }), "sandbox not found: box");
    Image::remove("app:1");
}

TEST_F(ImagesTest, AFailedPullDoesNotCostTheSandboxToBeReplaced) {
    load({"app:1"});
    Sandbox old = box("app:1").create();
    EXPECT_THAT(text_of([&] { box("nope:1").replace().create(); }), HasSubstr("image not cached"));
    EXPECT_EQ(old.status(), SandboxStatus::kRunning);
    Sandbox fresh = box("app:1").replace().create();
    EXPECT_NE(fresh.id(), old.id());
    fresh.stop();
}

TEST_F(ImagesTest, AStartNeedsItsFiles) {
    const ImageInfo image = load({"app:1"});
    box("app:1").create().stop();
    const fs::path vmdk = image::Cache(home_ / "cache").vmdk(*image.manifest_digest);
    const fs::path aside = home_ / "aside.vmdk";
    fs::rename(vmdk, aside);
    EXPECT_EQ(text_of([] { Sandbox::start("box"); }),
              "sandbox 'box' cannot start: VMDK missing: " + vmdk.string());
    EXPECT_EQ(Sandbox::get("box").status(), SandboxStatus::kStopped);
    fs::rename(aside, vmdk);
    Sandbox::start("box").stop();
    fs::remove(home_ / "sandboxes/box/upper.ext4");
    EXPECT_THAT(text_of([] { Sandbox::start("box"); }), HasSubstr("root disk missing: "));
}

TEST_F(ImagesTest, RemovalWaitsForWhoeverUsesTheCache) {
    load({"app:1"});
    const image::Cache cache = sdk::open_image_cache(backend());
    std::thread remover;
    {
        const FileLock pull = sdk::use_images(cache);
        const FileLock second = sdk::use_images(cache);  // users do not wait for each other
        EXPECT_FALSE(FileLock::try_acquire(cache.work("images.lock"), LockMode::kExclusive));
        remover = std::thread([] { Image::remove("app:1"); });
        EXPECT_THAT(cache_files(), SizeIs(4));
    }
    remover.join();
    EXPECT_THAT(cache_files(), ElementsAre());
}

}  // namespace
}  // namespace msb::test
