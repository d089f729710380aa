// pull() against registries that lie.
#include "image/pull.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <isa-l/crc.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "image/erofs_reader.h"
#include "lying_registry.h"

namespace msb::image {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::HttpServer;
using ::testing::IsEmpty;
using testing::LyingRegistry;
using testing::make_image;
using testing::make_layer;
using testing::Reply;
using testing::Request;
using testing::sha256_digest;
using testing::TestImage;
using Lie = std::optional<Reply>;

class RegistryPull : public ::testing::Test {
  protected:
    RegistryPull() {
        std::string name = "/tmp/registry-pull-XXXXXX";
        directory_ = ::mkdtemp(name.data());
        cache_.emplace(directory_ / "cache");
        options_.credentials.docker_config_directory = directory_;
        options_.retry.base_delay = std::chrono::milliseconds(1);
        options_.retry.max_retry_after = std::chrono::milliseconds(1);
        options_.events = [this](const PullEvent& event) { events_.push_back(event); };
    }
    ~RegistryPull() override { fs::remove_all(directory_); }

    PulledImage pull_from(const HttpServer& server, const std::string& path = "/repo:latest") {
        options_.insecure_hosts.insert(server.host());
        return pull(*cache_, parse_reference(server.host() + path), options_);
    }
    std::string failure(const HttpServer& server, const std::string& path = "/repo:latest") {
        try {
            pull_from(server, path);
        } catch (const Error& e) {
            return e.what();
        }
        return "(no error)";
    }
    std::vector<std::string> event_names() const {
        std::vector<std::string> names;
        for (const PullEvent& event : events_)
            names.emplace_back(to_string(event.kind));
        return names;
    }
    fs::path part(const std::string& layer) const {
        return cache_->work(digest_file_name(sha256_digest(layer)) + ".part");
    }
    // Nothing in the cache says that there is an image.
    void expect_no_image(const TestImage& image) const {
        EXPECT_TRUE(fs::is_empty(directory_ / "cache/vmdk"));
        for (const auto& entry : fs::directory_iterator(directory_ / "cache/manifests"))
            EXPECT_NE(entry.path().extension(), ".json") << entry.path();
        for (const std::string& layer : image.layers)
            EXPECT_FALSE(fs::exists(cache_->blob(sha256_digest(layer))));
    }
    void expect_whole(const TestImage& image) const {
        std::vector<std::string> ids;
        for (const std::string& layer : image.layers)
            ids.push_back(sha256_digest(layer));
        EXPECT_TRUE(layered_complete(image, ids));
    }
    bool layered_complete(const TestImage& image, const std::vector<std::string>& ids) const {
        bool valid = is_valid_erofs(cache_->fsmeta(image.manifest_digest)) &&
                     fs::exists(cache_->vmdk(image.manifest_digest));
        for (const std::string& id : ids)
            valid = valid && is_valid_erofs(cache_->layer_image(id));
        return valid;
    }

    fs::path directory_;
    std::optional<Cache> cache_;
    PullOptions options_;
    std::vector<PullEvent> events_;
};

TestImage small_image() {
    return make_image({make_layer("a", 1000, 1)});
}
TestImage large_image() {
    return make_image({make_layer("a", 3'000'000, 1)});
}

// ---- the honest path

TEST_F(RegistryPull, AsksForManifestConfigAndLayersOnce) {
    LyingRegistry registry(small_image());
    PulledImage pulled = pull_from(registry.server);
    EXPECT_FALSE(pulled.cached);
    EXPECT_EQ(pulled.image.manifest_digest, registry.image.manifest_digest);
    EXPECT_THAT(registry.server.paths(),
                ElementsAre("/v2/", "/v2/repo/manifests/latest", "/v2/",
                            "/v2/repo/blobs/" + sha256_digest(registry.image.config), "/v2/",
                            registry.blob_path(0)));
    std::vector<Request> requests = registry.server.requests();
    EXPECT_EQ(requests[0].header("accept"), "*/*");
    const std::string types =
        "application/vnd.docker.distribution.manifest.v2+json, "
        "application/vnd.docker.distribution.manifest.list.v2+json, "
        "application/vnd.oci.image.manifest.v1+json, application/vnd.oci.image.index.v1+json";
    EXPECT_EQ(requests[1].header("accept"), types);
    EXPECT_EQ(requests[5].header("accept"), types);
    EXPECT_EQ(requests[5].header("range"), "");
    expect_whole(registry.image);
    EXPECT_FALSE(fs::exists(cache_->blob(sha256_digest(registry.image.layers[0]))));
}

TEST_F(RegistryPull, SendsUpstreamsEventsInOrder) {
    LyingRegistry registry(small_image());
    pull_from(registry.server);
    EXPECT_THAT(
        event_names(),
        ElementsAre("resolving", "resolved", "layerDownloadProgress", "layerDownloadComplete",
                    "layerMaterializeStarted", "layerMaterializeProgress",
                    "layerMaterializeWriting", "layerMaterializeComplete", "stitchMergingTrees",
                    "stitchWritingFsmeta", "stitchWritingVmdk", "stitchComplete", "complete"));
    EXPECT_EQ(events_[1].total, registry.image.layers[0].size());
    events_.clear();
    EXPECT_TRUE(pull_from(registry.server).cached);
    EXPECT_THAT(event_names(), ElementsAre("resolving", "resolved", "complete"));
}

TEST_F(RegistryPull, ACachedImageNeedsNoRegistry) {
    std::optional<Reference> reference;
    {
        LyingRegistry registry(small_image());
        pull_from(registry.server);
        reference = parse_reference(registry.reference());
    }
    options_.policy = PullPolicy::kNever;
    EXPECT_TRUE(pull(*cache_, *reference, options_).cached);
}

TEST_F(RegistryPull, NeverFailsWithoutAnImage) {
    options_.policy = PullPolicy::kNever;
    try {
        pull(*cache_, parse_reference("zzz"), options_);
        FAIL();
    } catch (const Error& e) {
        EXPECT_STREQ(e.what(), "image not cached: docker.io/library/zzz:latest");
    }
}

TEST_F(RegistryPull, AlwaysAsksButDownloadsNothingTwice) {
    LyingRegistry registry(small_image());
    pull_from(registry.server);
    options_.policy = PullPolicy::kAlways;
    std::size_t before = registry.server.requests().size();
    EXPECT_FALSE(pull_from(registry.server).cached);
    EXPECT_EQ(registry.server.requests().size(), before + 4);  // two probes, manifest, config
}

TEST_F(RegistryPull, RepairsWhatIsMissingWithoutDownloadingLayers) {
    LyingRegistry registry(small_image());
    pull_from(registry.server);
    fs::remove(cache_->vmdk(registry.image.manifest_digest));
    events_.clear();
    pull_from(registry.server);
    EXPECT_THAT(event_names(), ElementsAre("resolving", "resolved", "stitchWritingVmdk",
                                           "stitchComplete", "complete"));
    fs::remove(cache_->fsmeta(registry.image.manifest_digest));
    events_.clear();
    pull_from(registry.server);
    EXPECT_THAT(event_names(), ElementsAre("resolving", "resolved", "layerMaterializeComplete",
                                           "stitchMergingTrees", "stitchWritingFsmeta",
                                           "stitchWritingVmdk", "stitchComplete", "complete"));
    auto paths = registry.server.paths();
    EXPECT_EQ(std::ranges::count(paths, registry.blob_path(0)), 1);
    expect_whole(registry.image);
}

TEST_F(RegistryPull, ForceDoesEverythingAgain) {
    LyingRegistry registry(small_image());
    pull_from(registry.server);
    options_.force = true;
    EXPECT_FALSE(pull_from(registry.server).cached);
    auto paths = registry.server.paths();
    EXPECT_EQ(std::ranges::count(paths, registry.blob_path(0)), 2);
}

TEST_F(RegistryPull, AnImageMayNameOneLayerTwice) {
    std::string layer = make_layer("a", 100'000, 1);
    LyingRegistry registry(make_image({layer, make_layer("b", 10, 2), layer}));
    pull_from(registry.server);
    expect_whole(registry.image);
}

TEST_F(RegistryPull, ConcurrentPullsOfOneImageDoTheWorkOnce) {
    LyingRegistry registry(make_image({make_layer("a", 500'000, 1), make_layer("b", 500'000, 2)}));
    options_.insecure_hosts.insert(registry.server.host());
    options_.events = {};
    Reference reference = parse_reference(registry.reference());
    {
        std::vector<std::jthread> pullers;
        for (int i = 0; i < 4; ++i)
            pullers.emplace_back([&] { pull(*cache_, reference, options_); });
    }
    auto paths = registry.server.paths();
    EXPECT_EQ(std::ranges::count(paths, "/v2/repo/manifests/latest"), 1);
    EXPECT_EQ(std::ranges::count(paths, registry.blob_path(0)), 1);
    EXPECT_EQ(std::ranges::count(paths, registry.blob_path(1)), 1);
    expect_whole(registry.image);
}

TEST_F(RegistryPull, TagsOfOneImageShareItsLayers) {
    LyingRegistry registry(small_image());
    registry.extra["/v2/repo/manifests/other"] = {200, {},    registry.image.manifest,
                                                  {},  false, false};
    pull_from(registry.server);
    pull_from(registry.server, "/repo:other");
    auto paths = registry.server.paths();
    EXPECT_EQ(std::ranges::count(paths, registry.blob_path(0)), 1);
}

TEST_F(RegistryPull, FlatTargetsNeedTheirComposer) {
    LyingRegistry registry(small_image());
    options_.target = PullTarget::kFlat;
    EXPECT_THAT(failure(registry.server), HasSubstr("cannot make flat root file systems"));
    EXPECT_THAT(registry.server.paths(), IsEmpty());
}

// Says what the pull asks of it; a flat root is an empty file.
class RecordingComposer : public FlatComposer {
  public:
    bool complete(const Cache& cache, const std::string& manifest,
                  std::span<const std::string>) const override {
        return fs::exists(cache.flat_reference(manifest));
    }
    void compose(const Cache& cache, const std::string& manifest, std::span<const std::string> ids,
                 bool, std::stop_token) const override {
        for (const std::string& id : ids)
            EXPECT_TRUE(is_valid_erofs(cache.layer_image(id)));
        std::ofstream(cache.flat_reference(manifest)) << "{}";
    }
};

// spec/images.md section 19, check 16.
TEST_F(RegistryPull, ALayeredNeedAfterAFlatPullDownloadsNoLayers) {
    LyingRegistry registry(small_image());
    RecordingComposer composer;
    options_.flat = &composer;
    options_.target = PullTarget::kFlat;
    pull_from(registry.server);
    EXPECT_TRUE(fs::is_empty(directory_ / "cache/fsmeta"));
    EXPECT_TRUE(pull_from(registry.server).cached);
    std::size_t before = registry.server.requests().size();
    options_.target = PullTarget::kLayered;
    options_.policy = PullPolicy::kAlways;
    pull_from(registry.server);
    auto paths = registry.server.paths();
    EXPECT_THAT(std::vector(paths.begin() + static_cast<long>(before), paths.end()),
                ElementsAre("/v2/", "/v2/repo/manifests/latest", "/v2/",
                            "/v2/repo/blobs/" + sha256_digest(registry.image.config)));
    expect_whole(registry.image);
    options_.target = PullTarget::kAll;
    options_.policy = PullPolicy::kNever;
    EXPECT_TRUE(pull_from(registry.server).cached);
}

// ---- lies about content

// One stored block (RFC 1951) in a gzip member.
std::string gzip(const std::string& text) {
    auto little = [](std::uint32_t value, int bytes) {
        std::string out;
        for (int i = 0; i < bytes; ++i)
            out += static_cast<char>(value >> (8 * i));
        return out;
    };
    auto size = static_cast<std::uint32_t>(text.size());
    std::uint32_t crc =
        crc32_gzip_refl(0, reinterpret_cast<const unsigned char*>(text.data()), text.size());
    return std::string("\x1F\x8B\x08\0\0\0\0\0\0\xFF\x01", 11) + little(size, 2) +
           little(~size, 2) + text + little(crc, 4) + little(size, 4);
}

// The layer is whole and right long before the blob turns out to be wrong.
TEST_F(RegistryPull, PublishesNoLayerOfAWrongBlob) {
    TestImage image = small_image();
    std::string layer = image.layers[0];
    std::string blob = gzip(layer);
    std::string diff_id = sha256_digest(layer);
    std::string plain =
        R"(layer.v1.tar","digest":")" + diff_id + R"(","size":)" + std::to_string(layer.size());
    std::size_t at = image.manifest.find(plain);
    ASSERT_NE(at, std::string::npos);
    image.manifest.replace(
        at, plain.size(),
        R"(layer.v1.tar+gzip","digest":")" + sha256_digest(blob) + R"(","size":10000000)");
    image.manifest_digest = sha256_digest(image.manifest);
    std::string path = "/v2/repo/blobs/" + sha256_digest(blob);
    std::string garbage = blob + std::string(2'000'000, 'x');
    {
        // All of the layer has come, the rest of the blob never does.
        options_.timeouts.stall = std::chrono::seconds(3);
        options_.timeouts.stall_bytes_per_second = 1L << 30;
        options_.retry.attempts = 1;
        LyingRegistry registry(image, [&](const Request& r) {
            return r.path == path ? Lie(Reply{200, {}, garbage, 1'000'000, false, true})
                                  : std::nullopt;
        });
        EXPECT_EQ(failure(registry.server), "error decoding response body");
        EXPECT_FALSE(fs::exists(cache_->layer_image(diff_id)));
        fs::remove(cache_->work(digest_file_name(sha256_digest(blob)) + ".part"));
        options_.timeouts = {};
    }
    {
        LyingRegistry registry(image, [&](const Request& r) {
            return r.path == path ? Lie(Reply{200, {}, garbage, {}, false, false}) : std::nullopt;
        });
        EXPECT_EQ(failure(registry.server), "Invalid digest. Expected " + sha256_digest(blob) +
                                                ", got " + sha256_digest(garbage));
        EXPECT_FALSE(fs::exists(cache_->layer_image(diff_id)));
    }
    LyingRegistry registry(image, [&](const Request& r) {
        return r.path == path ? Lie(Reply{200, {}, blob, {}, false, false}) : std::nullopt;
    });
    EXPECT_EQ(failure(registry.server), "(no error)");  // a size too large is no fault
    EXPECT_TRUE(is_valid_erofs(cache_->layer_image(diff_id)));
}

TEST_F(RegistryPull, RefusesALayerWithTheWrongDigest) {
    TestImage image = small_image();
    std::string other = make_layer("a", 1000, 99);
    std::string path = "/v2/repo/blobs/" + sha256_digest(image.layers[0]);
    LyingRegistry registry(image, [&](const Request& r) {
        return r.path == path ? Lie(Reply{200, {}, other, {}, false, false}) : std::nullopt;
    });
    EXPECT_EQ(failure(registry.server), "Invalid digest. Expected " +
                                            sha256_digest(image.layers[0]) + ", got " +
                                            sha256_digest(other));
    expect_no_image(image);
    EXPECT_TRUE(fs::is_empty(directory_ / "cache/tmp") || !fs::exists(part(image.layers[0])));
    EXPECT_FALSE(fs::exists(cache_->layer_image(sha256_digest(image.layers[0]))));
}

TEST_F(RegistryPull, RefusesABlobThatIsNotItsDiffId) {
    TestImage image = small_image();
    std::string claimed = sha256_digest(make_layer("b", 5, 5));
    std::string lied = image.config;
    lied.replace(lied.find("sha256:"), 71, claimed);
    image.manifest.replace(image.manifest.find(sha256_digest(image.config)), 71,
                           sha256_digest(lied));
    std::string diff_id = sha256_digest(image.layers[0]);
    image.config = lied;
    image.manifest_digest = sha256_digest(image.manifest);
    LyingRegistry registry(image);
    EXPECT_EQ(failure(registry.server), "digest mismatch for layer " + claimed + ": expected " +
                                            claimed + ", got " + diff_id);
    expect_no_image(image);
    EXPECT_TRUE(fs::is_empty(directory_ / "cache/fsmeta"));
}

TEST_F(RegistryPull, RefusesAnEndlessLayer) {
    TestImage image = small_image();
    std::string path = "/v2/repo/blobs/" + sha256_digest(image.layers[0]);
    LyingRegistry registry(image, [&](const Request& r) {
        return r.path == path ? Lie(Reply{200, {}, std::string(65536, 'x'), {}, true, false})
                              : std::nullopt;
    });
    EXPECT_THAT(failure(registry.server), HasSubstr("is larger than its descriptor says"));
    EXPECT_FALSE(fs::exists(part(image.layers[0])));
    expect_no_image(image);
}

TEST_F(RegistryPull, RefusesEndlessManifestsConfigsAndErrorPages) {
    for (std::string lie_about : {"manifests", "blobs"}) {
        for (int status : {200, 404}) {
            LyingRegistry registry(small_image(), [&](const Request& r) {
                return r.path.contains(lie_about)
                           ? Lie(Reply{status, {}, std::string(65536, ' '), {}, true, false})
                           : std::nullopt;
            });
            EXPECT_THAT(failure(registry.server), HasSubstr("larger than 16777216 bytes"))
                << lie_about << status;
        }
    }
}

TEST_F(RegistryPull, IgnoresTheBodyOfAnEndlessProbe) {
    LyingRegistry registry(small_image(), [&](const Request& r) {
        return r.path == "/v2/" ? Lie(Reply{404, {}, std::string(65536, ' '), {}, true, false})
                                : std::nullopt;
    });
    EXPECT_EQ(failure(registry.server), "(no error)");
}

TEST_F(RegistryPull, RefusesEndlessHeaders) {
    std::vector<std::string> headers(2000, "X-Filler: " + std::string(90, 'x'));
    LyingRegistry registry(small_image(), [&](const Request& r) {
        return r.path.contains("manifests") ? Lie(Reply{200, headers, "{}", {}, false, false})
                                            : std::nullopt;
    });
    EXPECT_THAT(failure(registry.server), HasSubstr("headers are too large"));
}

TEST_F(RegistryPull, RefusesAManifestThatIsNotItsDigest) {
    TestImage image = small_image();
    std::string other = make_image({make_layer("z", 1, 1)}).manifest;
    LyingRegistry registry(image, [&](const Request& r) {
        return r.path.contains("manifests") ? Lie(Reply{200, {}, other, {}, false, false})
                                            : std::nullopt;
    });
    EXPECT_EQ(failure(registry.server, "/repo@" + image.manifest_digest),
              "registry error: Digest error: Invalid digest. Expected " + image.manifest_digest +
                  ", got " + sha256_digest(other));
}

TEST_F(RegistryPull, RefusesAManifestThatIsNotItsHeadersDigest) {
    TestImage image = small_image();
    std::string claimed = sha256_digest("something else");
    LyingRegistry registry(image, [&](const Request& r) {
        return r.path.contains("manifests") ? Lie(Reply{200,
                                                        {"Docker-Content-Digest: " + claimed},
                                                        image.manifest,
                                                        {},
                                                        false,
                                                        false})
                                            : std::nullopt;
    });
    EXPECT_EQ(failure(registry.server), "registry error: Digest error: Invalid digest. Expected " +
                                            claimed + ", got " + image.manifest_digest);
}

TEST_F(RegistryPull, RefusesAConfigThatIsNotItsDigest) {
    TestImage image = small_image();
    std::string path = "/v2/repo/blobs/" + sha256_digest(image.config);
    LyingRegistry registry(image, [&](const Request& r) {
        return r.path == path ? Lie(Reply{200, {}, "{}", {}, false, false}) : std::nullopt;
    });
    EXPECT_EQ(failure(registry.server), "registry error: Digest error: Invalid digest. Expected " +
                                            sha256_digest(image.config) + ", got " +
                                            sha256_digest("{}"));
}

// ---- documents

class RegistryDocuments : public RegistryPull {
  protected:
    std::string failure_of(const std::string& manifest) {
        LyingRegistry registry(small_image());
        registry.extra["/v2/repo/manifests/latest"] = {200, {}, manifest, {}, false, false};
        return failure(registry.server);
    }
    static std::string index_of(const std::string& entries) {
        return R"({"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[)" +
               entries + "]}";
    }
    static std::string entry(const std::string& digest, const std::string& architecture) {
        return R"({"mediaType":"application/vnd.oci.image.manifest.v1+json","size":1,"digest":")" +
               digest + R"(","platform":{"os":"linux","architecture":")" + architecture + "\"}}";
    }
};

TEST_F(RegistryDocuments, RecordsTheChildOfAnIndex) {
    LyingRegistry registry(small_image());
    registry.extra["/v2/repo/manifests/latest"] = {
        200,
        {},
        index_of(entry(sha256_digest("x"), "s390x") + "," +
                 entry(registry.image.manifest_digest, host_platform().architecture)),
        {},
        false,
        false};
    EXPECT_EQ(pull_from(registry.server).image.manifest_digest, registry.image.manifest_digest);
}

TEST_F(RegistryDocuments, RefusesAnIndexWithoutOurPlatform) {
    const std::string none =
        "registry error: Image manifest not found: no entry found in image index manifest matching "
        "client's default platform";
    EXPECT_EQ(failure_of(index_of(entry(sha256_digest("x"), "s390x"))), none);
    EXPECT_EQ(failure_of(index_of("")), none);
}

TEST_F(RegistryDocuments, RefusesAnIndexInAnIndex) {
    LyingRegistry registry(small_image());
    std::string inner = index_of("");
    registry.extra["/v2/repo/manifests/latest"] = {
        200, {},    index_of(entry(sha256_digest(inner), host_platform().architecture)),
        {},  false, false};
    registry.extra["/v2/repo/manifests/" + sha256_digest(inner)] = {200, {},    inner,
                                                                    {},  false, false};
    EXPECT_THAT(failure(registry.server), HasSubstr("registry error: Image manifest not found: "));
}

TEST_F(RegistryDocuments, AcceptsASingleManifestOfAnotherPlatform) {
    TestImage image = small_image();
    std::string config = image.config;
    config.replace(config.find("amd64"), 5, "s390x");
    image.manifest.replace(image.manifest.find(sha256_digest(image.config)), 71,
                           sha256_digest(config));
    image.config = config;
    image.manifest_digest = sha256_digest(image.manifest);
    LyingRegistry registry(image);
    EXPECT_EQ(failure(registry.server), "(no error)");
}

TEST_F(RegistryDocuments, RefusesWhatItDoesNotKnow) {
    EXPECT_EQ(failure_of(R"({"schemaVersion":1,"fsLayers":[]})"),
              "registry error: Unsupported schema version: 1");
    EXPECT_EQ(failure_of(R"({"schemaVersion":2,"mediaType":"text/plain","layers":[]})"),
              "registry error: Unsupported media type: text/plain");
    EXPECT_THAT(failure_of("<html>"), HasSubstr("registry error: Failed to parse manifest: "));
}

TEST_F(RegistryDocuments, RefusesDigestsItCannotVerify) {
    TestImage image = small_image();
    std::string manifest = image.manifest;
    std::string digest = sha256_digest(image.layers[0]);
    for (const char* bad : {"md5:00", "sha256:00", "sha256:../../../../etc/passwd", "plain"}) {
        std::string lied = manifest;
        lied.replace(lied.find(digest), digest.size(), bad);
        EXPECT_THAT(failure_of(lied), HasSubstr("manifest parse error: invalid digest")) << bad;
    }
    expect_no_image(image);
}

TEST_F(RegistryDocuments, RefusesTooManyLayersAndWrongCounts) {
    TestImage image = small_image();
    image.layers.push_back("never asked for");
    std::string manifest = image.manifest;
    std::string layer = manifest.substr(manifest.find("\"layers\":[") + 10);
    layer = layer.substr(0, layer.find('}') + 1);
    std::string two = manifest;
    two.insert(two.find("\"layers\":[") + 10, layer + ",");
    EXPECT_EQ(failure_of(two),
              "manifest parse error: layer count mismatch: config has 1 diff_ids but manifest has "
              "2 layers");
    std::string many;
    for (std::size_t i = 0; i < kMaxLayers; ++i)
        many += layer + ",";
    std::string full = manifest;
    full.insert(full.find("\"layers\":[") + 10, many);
    EXPECT_THAT(failure_of(full), HasSubstr("1025 layers; max is 1024"));
}

// ---- broken connections

TEST_F(RegistryPull, ResumesABrokenBodyWhereItBroke) {
    TestImage image = large_image();
    std::string path = "/v2/repo/blobs/" + sha256_digest(image.layers[0]);
    LyingRegistry registry(image, [&](const Request& r) {
        return r.path == path && r.count == 0
                   ? Lie(Reply{200, {}, image.layers[0], 1'000'000, false, false})
                   : std::nullopt;
    });
    pull_from(registry.server);
    EXPECT_EQ(registry.server.requests().back().header("range"), "bytes=1000000-");
    expect_whole(image);
}

TEST_F(RegistryPull, PassesOverTheBeginningWhenTheRangeIsIgnored) {
    TestImage image = large_image();
    std::string path = "/v2/repo/blobs/" + sha256_digest(image.layers[0]);
    LyingRegistry registry(image, [&](const Request& r) {
        if (r.path != path) return Lie();
        // The second answer breaks before it comes to anything new.
        std::optional<std::size_t> cut;
        if (r.count == 0) cut = 2'000'000;
        if (r.count == 1) cut = 500'000;
        return Lie(Reply{200, {}, image.layers[0], cut, false, false});
    });
    pull_from(registry.server);
    EXPECT_EQ(registry.server.requests().back().header("range"), "bytes=2000000-");
    expect_whole(image);
}

TEST_F(RegistryPull, GivesUpOnABodyThatAlwaysBreaksAndResumesNextTime) {
    TestImage image = large_image();
    std::string path = "/v2/repo/blobs/" + sha256_digest(image.layers[0]);
    std::atomic<bool> broken = true;
    LyingRegistry registry(image, [&](const Request& r) {
        if (r.path != path || !broken) return Lie();
        std::string range = r.header("range");
        if (range.empty()) return Lie(Reply{200, {}, image.layers[0], 1'000'000, false, false});
        return Lie(Reply{206,
                         {"Content-Range: bytes " + range.substr(6) + "2999999/3000000"},
                         "xxx",
                         0,
                         false,
                         false});
    });
    EXPECT_EQ(failure(registry.server), "error decoding response body");
    EXPECT_EQ(fs::file_size(part(image.layers[0])), 1'000'000U);
    expect_no_image(image);
    broken = false;
    pull_from(registry.server);
    EXPECT_EQ(registry.server.requests().back().header("range"), "bytes=1000000-");
    expect_whole(image);
    EXPECT_FALSE(fs::exists(part(image.layers[0])));
}

class RegistryParts : public RegistryPull {
  protected:
    void leave(const std::string& layer, const std::string& bytes) {
        std::ofstream(part(layer), std::ios::binary) << bytes;
    }
    std::string last_range(const LyingRegistry& registry) {
        return registry.server.requests().back().header("range");
    }
};

TEST_F(RegistryParts, AWholePartIsTakenAsItIs) {
    LyingRegistry registry(large_image());
    leave(registry.image.layers[0], registry.image.layers[0]);
    pull_from(registry.server);
    EXPECT_THAT(registry.server.paths(),
                ::testing::Not(::testing::Contains(registry.blob_path(0))));
    expect_whole(registry.image);
}

TEST_F(RegistryParts, AWrongWholePartAndATooLongOneStartAnew) {
    LyingRegistry registry(large_image());
    const std::string& layer = registry.image.layers[0];
    for (std::size_t extra : {0, 1000}) {
        leave(layer, std::string(layer.size() + extra, 'x'));
        options_.policy = PullPolicy::kAlways;
        fs::remove(cache_->layer_image(sha256_digest(layer)));
        pull_from(registry.server);
        EXPECT_EQ(last_range(registry), "");
        expect_whole(registry.image);
    }
}

TEST_F(RegistryParts, AWrongBeginningIsFoundAndRemoved) {
    LyingRegistry registry(large_image());
    const std::string& layer = registry.image.layers[0];
    leave(layer, std::string(1000, 'x'));
    std::string digest = sha256_digest(layer);
    std::string got = sha256_digest(std::string(1000, 'x') + layer.substr(1000));
    EXPECT_EQ(failure(registry.server), "digest mismatch for layer " + digest + ": expected " +
                                            digest.substr(7) + ", got " + got.substr(7));
    EXPECT_FALSE(fs::exists(part(layer)));
    EXPECT_EQ(failure(registry.server), "(no error)");
}

TEST_F(RegistryParts, AnIgnoredRangeStartsAnew) {
    TestImage image = large_image();
    std::string path = "/v2/repo/blobs/" + sha256_digest(image.layers[0]);
    LyingRegistry registry(image, [&](const Request& r) {
        return r.path == path ? Lie(Reply{200, {}, image.layers[0], {}, false, false})
                              : std::nullopt;
    });
    leave(image.layers[0], std::string(1000, 'x'));
    pull_from(registry.server);
    expect_whole(image);
}

TEST_F(RegistryParts, ARefusedRangeStartsAnew) {
    TestImage image = large_image();
    std::string path = "/v2/repo/blobs/" + sha256_digest(image.layers[0]);
    LyingRegistry registry(image, [&](const Request& r) {
        return r.path == path && !r.header("range").empty()
                   ? Lie(Reply{416, {}, "", {}, false, false})
                   : std::nullopt;
    });
    leave(image.layers[0], std::string(1000, 'x'));
    pull_from(registry.server);
    EXPECT_EQ(last_range(registry), "");
    expect_whole(image);
}

TEST_F(RegistryParts, AnAnswerForAnotherRangeIsRefused) {
    TestImage image = large_image();
    std::string path = "/v2/repo/blobs/" + sha256_digest(image.layers[0]);
    LyingRegistry registry(image, [&](const Request& r) {
        return r.path == path
                   ? Lie(Reply{206, {"Content-Range: bytes 7-9/10"}, "abc", {}, false, false})
                   : std::nullopt;
    });
    leave(image.layers[0], image.layers[0].substr(0, 1000));
    EXPECT_EQ(failure(registry.server), "registry error: unexpected Content-Range: bytes 7-9/10");
}

TEST_F(RegistryParts, ABlobOfAKilledPullIsReused) {
    LyingRegistry registry(large_image());
    const std::string& layer = registry.image.layers[0];
    std::ofstream(cache_->blob(sha256_digest(layer)), std::ios::binary) << layer;
    pull_from(registry.server);
    EXPECT_THAT(registry.server.paths(),
                ::testing::Not(::testing::Contains(registry.blob_path(0))));
    EXPECT_FALSE(fs::exists(cache_->blob(sha256_digest(layer))));
}

TEST_F(RegistryPull, TriesAgainAfterServerErrors) {
    for (int status : {429, 500, 502, 503, 504}) {
        fs::remove_all(directory_ / "cache");
        cache_.emplace(directory_ / "cache");
        LyingRegistry registry(small_image(), [&](const Request& r) {
            bool first = r.path == "/v2/" ? r.count == 0 : r.count < 2;
            return first ? Lie(Reply{status, {"Retry-After: 100000"}, "busy", {}, false, false})
                         : std::nullopt;
        });
        EXPECT_EQ(failure(registry.server), "(no error)") << status;
    }
}

TEST_F(RegistryPull, GivesUpOnServersThatStayBroken) {
    TestImage image = small_image();
    for (const std::string& what :
         std::vector<std::string>{"manifests/latest", "blobs/" + sha256_digest(image.layers[0])}) {
        LyingRegistry registry(image, [&](const Request& r) {
            return r.path.contains(what) ? Lie(Reply{500, {}, "broken", {}, false, false})
                                         : std::nullopt;
        });
        std::string url = "http://" + registry.server.host() + "/v2/repo/" + what;
        std::string expected =
            what.starts_with("m")
                ? "registry error: Server error: url " + url + ", code: 500, message: broken"
                : "registry error: HTTP status server error (500 Internal Server Error) for url (" +
                      url + ")";
        EXPECT_EQ(failure(registry.server), expected);
        auto paths = registry.server.paths();
        EXPECT_EQ(std::ranges::count(paths, "/v2/repo/" + what), options_.retry.attempts);
    }
}

TEST_F(RegistryPull, ReportsRefusedConnections) {
    std::string host;
    {
        HttpServer gone([](const Request&) { return Reply{}; });
        host = gone.host();
    }
    options_.insecure_hosts.insert(host);
    try {
        pull(*cache_, parse_reference(host + "/repo"), options_);
        FAIL();
    } catch (const Error& e) {
        EXPECT_EQ(std::string(e.what()),
                  "registry error: error sending request for url (http://" + host + "/v2/)");
    }
}

TEST_F(RegistryPull, GivesUpOnASlowLoris) {
    TestImage image = large_image();
    options_.timeouts.stall = std::chrono::seconds(1);
    options_.retry.attempts = 1;
    std::string path = "/v2/repo/blobs/" + sha256_digest(image.layers[0]);
    LyingRegistry registry(image, [&](const Request& r) {
        return r.path == path ? Lie(Reply{200, {}, image.layers[0], 1000, false, true})
                              : std::nullopt;
    });
    EXPECT_EQ(failure(registry.server), "error decoding response body");
}

TEST_F(RegistryPull, CanBeCancelledWhileWaitingForBytes) {
    TestImage image = large_image();
    std::stop_source stop;
    options_.stop = stop.get_token();
    options_.events = [&](const PullEvent& event) {
        if (event.kind == PullEvent::Kind::kLayerDownloadProgress) stop.request_stop();
    };
    std::string path = "/v2/repo/blobs/" + sha256_digest(image.layers[0]);
    LyingRegistry registry(image, [&](const Request& r) {
        return r.path == path ? Lie(Reply{200, {}, image.layers[0], 1'500'000, false, true})
                              : std::nullopt;
    });
    try {
        pull_from(registry.server);
        FAIL();
    } catch (const Error& e) {
        EXPECT_EQ(e.code(), ErrorCode::kCancelled) << e.what();
    }
    expect_no_image(image);
}

TEST_F(RegistryPull, CanBeCancelledWhileWaitingForALock) {
    LyingRegistry registry(small_image());
    Reference reference = parse_reference(registry.reference());
    FileLock held = cache_->lock_metadata(reference);
    std::stop_source stop;
    options_.stop = stop.get_token();
    std::jthread canceller([&] { stop.request_stop(); });
    EXPECT_EQ(failure(registry.server), "operation cancelled");
}

// ---- authentication

class RegistryLogin : public RegistryPull {
  protected:
    // Lets only requests with `authorization` in; everything but the probe and the token realm answers 401 without.
    static LyingRegistry::Lie guarded(std::string authorization, std::string challenge) {
        return [=](const Request& r) {
            if (r.path.starts_with("/token")) return Lie();
            if (r.header("authorization") == authorization) return Lie();
            return Lie(Reply{401, {"WWW-Authenticate: " + challenge}, "{}", {}, false, false});
        };
    }
};

TEST_F(RegistryLogin, BearerAsksExactlyOnceForAToken) {
    std::string challenge;
    LyingRegistry registry(small_image(), [&](const Request& r) -> Lie {
        if (r.path.starts_with("/token") || r.header("authorization") == "Bearer T") return {};
        return Reply{401, {"WWW-Authenticate: " + challenge}, "{}", {}, false, false};
    });
    challenge = "Bearer realm=\"http://" + registry.server.host() + "/token\",service=\"svc\"";
    std::string token = "/token?scope=repository%3Arepo%3Apull&service=svc";
    registry.extra[token] = {200, {}, R"({"token":"T"})", {}, false, false};
    options_.credentials.explicit_credentials = BasicCredentials{"u", "p"};
    pull_from(registry.server);
    EXPECT_THAT(registry.server.paths(),
                ElementsAre("/v2/", token, "/v2/repo/manifests/latest",
                            "/v2/repo/blobs/" + sha256_digest(registry.image.config),
                            registry.blob_path(0)));
    EXPECT_EQ(registry.server.requests()[1].header("authorization"), "Basic dTpw");
}

TEST_F(RegistryLogin, ATokenThatRunsOutEarlyIsRenewed) {
    std::string challenge;
    LyingRegistry registry(small_image(), [&](const Request& r) -> Lie {
        if (r.path.starts_with("/token"))
            return Reply{200, {},    "{\"token\":\"T" + std::to_string(r.count) + "\"}",
                         {},  false, false};
        bool layer = r.path.ends_with(sha256_digest(small_image().layers[0]));
        if (r.header("authorization") == (layer ? "Bearer T1" : "Bearer T0")) return {};
        return Reply{401, {"WWW-Authenticate: " + challenge}, "{}", {}, false, false};
    });
    challenge = "Bearer realm=\"http://" + registry.server.host() + "/token\"";
    EXPECT_EQ(failure(registry.server), "(no error)");
}

TEST_F(RegistryLogin, AFailingTokenExchangeShowsAsTheRegistrys401) {
    std::string challenge;
    LyingRegistry registry(small_image(), [&](const Request& r) -> Lie {
        if (r.path.starts_with("/token")) return Reply{403, {}, "no", {}, false, false};
        return Reply{401, {"WWW-Authenticate: " + challenge}, "{}", {}, false, false};
    });
    challenge = "Bearer realm=\"http://" + registry.server.host() + "/token\"";
    EXPECT_EQ(failure(registry.server), "registry error: Not authorized: url http://" +
                                            registry.server.host() + "/v2/repo/manifests/latest");
}

TEST_F(RegistryLogin, ABearerWithoutRealmMeansBasic) {
    options_.credentials.explicit_credentials = BasicCredentials{"u", "p"};
    LyingRegistry registry(small_image(), guarded("Basic dTpw", "Bearer service=\"x\""));
    EXPECT_EQ(failure(registry.server), "(no error)");
    EXPECT_EQ(std::ranges::count(registry.server.paths(), "/v2/"), 1);
}

TEST_F(RegistryLogin, WithoutCredentialsTheRequestGoesOutBare) {
    LyingRegistry registry(small_image(), guarded("Basic dTpw", "Basic realm=\"x\""));
    EXPECT_THAT(failure(registry.server), HasSubstr("registry error: Not authorized: url "));
}

TEST_F(RegistryLogin, SaysWhatTheRegistrySays) {
    LyingRegistry registry(small_image());
    EXPECT_EQ(
        failure(registry.server, "/other:x"),
        "registry error: Registry error: url http://" + registry.server.host() +
            "/v2/other/manifests/x, envelope: OCI API errors: [OCI API error: no such thing]");
}

// ---- redirects

TEST_F(RegistryLogin, CredentialsStayWithTheirHost) {
    TestImage image = small_image();
    HttpServer storage(
        [&](const Request&) { return Reply{200, {}, image.layers[0], {}, false, false}; });
    std::string path = "/v2/repo/blobs/" + sha256_digest(image.layers[0]);
    auto guard = guarded("Basic dTpw", "Basic realm=\"x\"");
    LyingRegistry registry(image, [&](const Request& r) -> Lie {
        if (r.path == path)
            return Reply{
                307, {"Location: http://" + storage.host() + "/there?sig=1"}, "", {}, false, false};
        return guard(r);
    });
    options_.credentials.explicit_credentials = BasicCredentials{"u", "p"};
    pull_from(registry.server);
    ASSERT_EQ(storage.requests().size(), 1U);
    EXPECT_EQ(storage.requests()[0].path, "/there?sig=1");
    EXPECT_EQ(storage.requests()[0].header("authorization"), "");
}

TEST_F(RegistryPull, FollowsRelativeRedirectsAndRefusesLoops) {
    TestImage image = small_image();
    std::string path = "/v2/repo/blobs/" + sha256_digest(image.layers[0]);
    {
        LyingRegistry registry(image, [&](const Request& r) -> Lie {
            if (r.path == path) return Reply{302, {"Location: /elsewhere"}, "", {}, false, false};
            if (r.path == "/elsewhere") return Reply{200, {}, image.layers[0], {}, false, false};
            return {};
        });
        EXPECT_EQ(failure(registry.server), "(no error)");
    }
    options_.force = true;
    LyingRegistry registry(image, [&](const Request& r) -> Lie {
        if (r.path == path) return Reply{302, {"Location: " + path}, "", {}, false, false};
        return {};
    });
    EXPECT_THAT(failure(registry.server),
                HasSubstr("registry error: error following redirect for url (http://"));
    EXPECT_EQ(std::ranges::count(registry.server.paths(), path), 11);
}

TEST_F(RegistryPull, RefusesRedirectsToOtherProtocols) {
    TestImage image = small_image();
    std::string path = "/v2/repo/blobs/" + sha256_digest(image.layers[0]);
    for (const char* target :
         {"file:///etc/passwd", "ftp://127.0.0.1/", "http://u:p@127.0.0.1/", "http://"}) {
        LyingRegistry registry(image, [&](const Request& r) -> Lie {
            if (r.path == path)
                return Reply{302, {std::string("Location: ") + target}, "", {}, false, false};
            return {};
        });
        EXPECT_THAT(failure(registry.server), HasSubstr("error following redirect")) << target;
    }
}

// ---- trust

TEST(CaCertificates, AreCheckedByPosition) {
    auto message = [](const std::vector<std::string>& pems) -> std::string {
        try {
            check_ca_certificates(pems);
        } catch (const Error& e) {
            return e.what();
        }
        return "";
    };
    EXPECT_EQ(message({"nothing here"}),
              "invalid PEM certificate: entry 0: no certificates found in PEM data");
    EXPECT_THAT(message({"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}),
                HasSubstr("invalid PEM certificate: entry 0: failed to parse: "));
    try {
        read_ca_certificates("/nonexistent/ca.pem", ErrorCode::kInvalidConfig);
        FAIL();
    } catch (const Error& e) {
        EXPECT_STREQ(e.what(),
                     "invalid config: failed to read CA certs from `/nonexistent/ca.pem`: No such "
                     "file or directory (os error 2)");
    }
}

}  // namespace
}  // namespace msb::image
