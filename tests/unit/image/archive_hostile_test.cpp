// load_archive(): archives that are wrong, and what they leave behind. spec/images.md sections 16.1 and 19.
#include <fcntl.h>

#include <algorithm>

#include "archive_fixture.h"
#include "compress.h"

namespace msb::image {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

class ArchiveHostile : public ArchiveTest {
  protected:
    // Nothing of a refused archive can be seen; what was being made is gone.
    void expect_nothing_left() {
        EXPECT_THAT(files("manifests"), IsEmpty());
        EXPECT_THAT(files("layers"), IsEmpty());
        EXPECT_THAT(files("fsmeta"), IsEmpty());
        EXPECT_THAT(files("vmdk"), IsEmpty());
        EXPECT_THAT(files("tmp"), IsEmpty());
    }
};

TEST_F(ArchiveHostile, DockerManifests) {
    std::string layer = golden_layer();
    auto error = [&](const std::string& manifest, const std::string& config = "") {
        std::string text = failure(
            tar_of({{"manifest.json", manifest},
                    {"c", config.empty() ? config_of({layer}) : config},
                    {"l", layer},
                    {"blobs/sha256/" + std::string(64, '0'), layer + std::string(512, '\0')}}));
        expect_nothing_left();
        return text;
    };
    EXPECT_EQ(error("[]"), "manifest parse error: docker archive manifest is empty");
    EXPECT_THAT(error("{"), StartsWith("manifest parse error: docker manifest.json: "));
    EXPECT_THAT(
        error("{}"),
        StartsWith(
            "manifest parse error: docker manifest.json: invalid type: map, expected a sequence"));
    EXPECT_THAT(error(R"([{"Layers":[]}])"),
                StartsWith("manifest parse error: docker manifest.json: missing field `Config`"));
    EXPECT_EQ(error(R"([{"Config":"zz","RepoTags":["x"],"Layers":["l"]}])"),
              "config parse error: docker archive missing config zz");
    EXPECT_EQ(error(R"([{"Config":"c","RepoTags":["x"],"Layers":["../../l"]}])"),
              "manifest parse error: docker archive missing layer ../../l");
    EXPECT_EQ(error(R"([{"Config":"c","RepoTags":["x"],"Layers":["l","l"]}])"),
              "manifest parse error: layer count mismatch: config has 1 diff_ids but archive "
              "manifest has 2 layers");
    EXPECT_EQ(error(R"([{"Config":"c","RepoTags":null,"Layers":["l"]}])"),
              "manifest parse error: docker archive image has no tags; pass --tag to name it");
    EXPECT_EQ(error(R"([{"Config":"c","RepoTags":["<none>:<none>"],"Layers":["l"]}])"),
              "manifest parse error: docker archive image has no tags; pass --tag to name it");
    EXPECT_EQ(error(R"([{"Config":"c","RepoTags":["UP:1"],"Layers":["l"]}])"),
              "manifest parse error: invalid image reference UP:1: invalid reference format");
    std::string blob = "blobs/sha256/" + std::string(64, '0');
    EXPECT_EQ(error(R"([{"Config":"c","RepoTags":["x"],"Layers":[")" + blob + R"("]}])"),
              "manifest parse error: docker archive layer path " + blob +
                  " digest mismatch: expected sha256:" + std::string(64, '0') + ", got " +
                  digest_of(layer + std::string(512, '\0')));
    EXPECT_THAT(error(R"([{"Config":"c","RepoTags":["x"],"Layers":["l"]}])", "{"),
                StartsWith("config parse error: failed to parse image config: "));
    EXPECT_EQ(error(R"([{"Config":"c","RepoTags":["x"],"Layers":["l"]}])", config_of({"other"})),
              "digest mismatch for layer " + digest_of("other") + ": expected " +
                  digest_of("other") + ", got " + digest_of(layer));
    std::string many = R"(["x")";
    for (std::size_t i = 0; i < kMaxImageReferences; ++i)
        many += ",\"x:" + std::to_string(i) + "\"";
    EXPECT_EQ(error(R"([{"Config":"c","Layers":["l"],"RepoTags":)" + many + "]}]"),
              "manifest parse error: image has 257 references; max is 256");
}

TEST_F(ArchiveHostile, OciLayouts) {
    std::string layer = golden_layer();
    OciBuilder oci;
    auto image = oci.add_image({layer}, "x:1");
    auto error = [&](OciBuilder layout, Json descriptor) {
        std::string text = failure(layout.archive({std::move(descriptor)}));
        expect_nothing_left();
        return text;
    };
    auto with = [&](const char* key, const Json& value) {
        Json descriptor = image.descriptor;
        descriptor[key] = value;
        return descriptor;
    };
    auto without = [&](const std::string& content) {
        OciBuilder copy = oci;
        copy.blobs.erase("blobs/sha256/" + sha256_hex(content));
        return copy;
    };
    auto changed = [&](const std::string& content, const std::string& by) {
        OciBuilder copy = oci;
        copy.blobs["blobs/sha256/" + sha256_hex(content)] = by;
        return copy;
    };
    Json nameless = image.descriptor;
    nameless.erase("annotations");
    EXPECT_EQ(error(oci, nameless),
              "manifest parse error: OCI layout image has no ref.name "
              "annotation; pass --tag to name it");
    EXPECT_EQ(error(oci, with("platform", {{"architecture", "s390x"}, {"os", "linux"}})),
              "manifest parse error: OCI layout contains no image manifests for the host platform");
    EXPECT_EQ(error(oci, with("mediaType", "application/vnd.example")),
              "manifest parse error: OCI layout contains no image manifests for the host platform");
    EXPECT_EQ(error(oci, with("size", 5)), "manifest parse error: OCI blob " +
                                               digest_of(image.manifest) +
                                               " size mismatch: descriptor has 5, archive has " +
                                               std::to_string(image.manifest.size()));
    EXPECT_EQ(error(oci, with("digest", "sha256:" + std::string(64, '1'))),
              "manifest parse error: OCI layout missing manifest blob blobs/sha256/" +
                  std::string(64, '1'));
    OciBuilder sha512 = oci;
    sha512.blobs["blobs/sha512/" + std::string(128, '1')] = image.manifest;
    EXPECT_EQ(error(sha512, with("digest", "sha512:" + std::string(128, '1'))),
              "manifest parse error: unsupported OCI digest algorithm: sha512");
    EXPECT_THAT(error(oci, with("digest", "sha256:../../x")), StartsWith("manifest parse error: "));
    std::string tampered = image.manifest;
    tampered.back() = ' ';
    EXPECT_EQ(error(changed(image.manifest, tampered), image.descriptor),
              "manifest parse error: OCI blob digest mismatch: expected " +
                  digest_of(image.manifest) + ", got " + digest_of(tampered));
    EXPECT_EQ(error(without(image.config), image.descriptor),
              "config parse error: OCI layout missing config blob blobs/sha256/" +
                  sha256_hex(image.config));
    EXPECT_EQ(
        error(without(layer), image.descriptor),
        "manifest parse error: OCI layout missing layer blob blobs/sha256/" + sha256_hex(layer));
    std::string other = layer;
    other[600] = 'x';
    EXPECT_EQ(error(changed(layer, other), image.descriptor),
              "manifest parse error: OCI layer digest mismatch: descriptor has " +
                  digest_of(layer) + ", archive has " + digest_of(other));
    other.replace(0, 512, std::string(512, 'x'));  // no tar at all
    EXPECT_THAT(error(changed(layer, other), image.descriptor),
                StartsWith("manifest parse error: OCI layer digest mismatch: "));
    EXPECT_EQ(error(changed(layer, layer + "x"), image.descriptor),
              "manifest parse error: OCI layer " + digest_of(layer) +
                  " size mismatch: descriptor has 2048, archive has 2049");
    Json not_json = oci.add_blob("application/vnd.oci.image.manifest.v1+json", "{");
    EXPECT_THAT(error(oci, not_json), StartsWith("manifest parse error: OCI image manifest: "));
    // A compressed layer that is not what the descriptor says.
    OciBuilder packed;
    auto packed_image = packed.add_image({layer}, "x:1", {gzip(layer)});
    packed.blobs["blobs/sha256/" + sha256_hex(gzip(layer))] = gzip(layer).replace(20, 3, "???");
    EXPECT_THAT(failure(packed.archive({packed_image.descriptor})),
                StartsWith("manifest parse error: OCI layer digest mismatch: "));
    expect_nothing_left();
}

TEST_F(ArchiveHostile, OciMarkersAndIndexes) {
    auto error = [&](const Members& members) { return failure(tar_of(members)); };
    EXPECT_EQ(error({{"a", "b"}}),
              "manifest parse error: archive missing manifest.json or oci-layout");
    EXPECT_THAT(error({{"oci-layout", "{"}}), StartsWith("manifest parse error: oci-layout: "));
    EXPECT_THAT(error({{"oci-layout", "{}"}}),
                StartsWith("manifest parse error: oci-layout: missing field `imageLayoutVersion`"));
    std::string marker = R"({"imageLayoutVersion":"1.0.0"})";
    EXPECT_EQ(error({{"oci-layout", marker}}),
              "manifest parse error: OCI layout missing index.json");
    EXPECT_THAT(error({{"oci-layout", marker}, {"index.json", "{"}}),
                StartsWith("manifest parse error: OCI index.json: "));
    EXPECT_EQ(
        error({{"oci-layout", marker}, {"index.json", R"({"schemaVersion":2,"manifests":[]})"}}),
        "manifest parse error: OCI layout contains no image manifests for the host platform");
}

TEST_F(ArchiveHostile, DeepAndWideIndexes) {
    constexpr const char* kType = "application/vnd.oci.image.index.v1+json";
    OciBuilder oci;
    Json inner = oci.add_blob(kType, OciBuilder::index_of({}));
    for (std::size_t i = 0; i < kMaxIndexNesting; ++i)
        inner = oci.add_blob(kType, OciBuilder::index_of({inner}));
    EXPECT_EQ(failure(oci.archive({inner})),
              "manifest parse error: OCI layout nests indexes too deeply; max is 32");
    // One index of many that each name many: the count must end it, not the product.
    OciBuilder wide;
    Json leaf = wide.add_blob(kType, OciBuilder::index_of({}));
    Json middle = wide.add_blob(kType, OciBuilder::index_of(std::vector<Json>(1000, leaf)));
    EXPECT_EQ(failure(wide.archive(std::vector<Json>(1000, middle))),
              "manifest parse error: OCI layout has too many nested indexes; max is 1024");
}

// Check 20 of section 19.
TEST_F(ArchiveHostile, LargeMetadata) {
    std::string header = TarBuilder().file("manifest.json", "").bytes();
    header.replace(124, 11, "00100000001");  // 16777217
    std::string archive = TarBuilder().raw(header, "").bytes() + std::string(16777217 + 511, ' ');
    EXPECT_EQ(
        failure(archive + std::string(1024, '\0')),
        "manifest parse error: archive metadata entry manifest.json is 16777217 bytes; max is "
        "16777216");
}

TEST_F(ArchiveHostile, LargeMembers) {
    std::string header = TarBuilder().file("layer", "").bytes();
    header.replace(124, 11,
                   "200000000000");  // 16 GiB in octal needs a digit more than fits: base 256
    header.replace(124, 12, std::string("\x80\0\0\0\0\0\0\2\x80\0\0\1", 12));
    EXPECT_EQ(failure(TarBuilder().raw(header, "").finish()),
              "archive entry layer is 10737418241 bytes; max is 10737418240");
}

TEST_F(ArchiveHostile, CutAnywhere) {
    std::string archive = docker_archive({golden_layer()}, {"x:1"});
    std::size_t content = archive.size() - 1024;  // the end mark may be missing
    // A cut of the tail that nobody reads is none.
    for (const auto& [whole, end] :
         {std::pair(archive, content),
          {gzip(archive), gzip(archive.substr(0, content)).size() - 64},
          {zstd(archive), zstd(archive.substr(0, content)).size() / 2}}) {
        for (std::size_t length = 0; length < end; length += whole.size() / 40 + 1) {
            EXPECT_THAT(failure(whole.substr(0, length)),
                        testing::AnyOf(StartsWith("cannot read the archive: "),
                                       StartsWith("manifest parse error: archive missing")));
            expect_nothing_left();
        }
    }
}

TEST_F(ArchiveHostile, GarbageIsNoArchive) {
    std::string noise(4096, '\0');
    for (std::size_t i = 0; i < noise.size(); ++i)
        noise[i] = static_cast<char>(i * 2654435761U >> 13);
    EXPECT_THAT(failure(noise), StartsWith("cannot read the archive: "));
    EXPECT_THAT(failure(std::string("\x1f\x8b") + noise), StartsWith("cannot read the archive: "));
    EXPECT_THAT(failure("\x28\xb5\x2f\xfd" + noise), StartsWith("cannot read the archive: "));
    EXPECT_EQ(failure(""), "manifest parse error: archive missing manifest.json or oci-layout");
    UniqueFd directory(::open(directory_.c_str(), O_RDONLY | O_CLOEXEC));
    EXPECT_THROW(load_archive(*cache_, directory.get(), options_), Error);
    expect_nothing_left();
}

// Members named like files of the host are only names; links lead nowhere but to members.
TEST_F(ArchiveHostile, PathsStayInTheArchive) {
    std::string layer = golden_layer();
    std::string manifest = R"([{"Config":"/etc/hostname","RepoTags":["x"],"Layers":["l"]}])";
    EXPECT_EQ(failure(tar_of({{"manifest.json", manifest}, {"l", layer}})),
              "config parse error: docker archive missing config /etc/hostname");
    for (const char* target : {"../../../../etc/hostname", "/etc/hostname", "l", "loop", ""}) {
        std::string archive =
            TarBuilder()
                .file("manifest.json", R"([{"Config":"l","RepoTags":["x"],"Layers":["loop"]}])")
                .symlink("l", target)
                .symlink("loop", "l")
                .finish();
        EXPECT_EQ(failure(archive), "config parse error: docker archive missing config l");
    }
    expect_nothing_left();
}

TEST_F(ArchiveHostile, LongNames) {
    EXPECT_EQ(failure(TarBuilder().pax("path", std::string(5000, 'a')).file("x", "").finish()),
              "archive entry path is too long; max is 4096");
    TarBuilder headers;
    for (int i = 0; i < 100; ++i)
        headers.pax("path", "a");
    EXPECT_EQ(failure(headers.file("x", "").finish()),
              "cannot read the archive: too many extended headers");
}

// What stands before a faulty image in an archive stays: each is complete by itself.
TEST_F(ArchiveHostile, ImagesBeforeTheFaultyOneStay) {
    std::string good = golden_layer();
    std::string bad = TarBuilder().file("b", "b").finish();
    Json entries = {{{"Config", "c"}, {"RepoTags", {"good"}}, {"Layers", {"l"}}},
                    {{"Config", "d"}, {"RepoTags", {"bad"}}, {"Layers", {"m"}}}};
    EXPECT_THAT(failure(tar_of({{"manifest.json", entries.dump()},
                                {"c", config_of({good})},
                                {"d", config_of({bad})},
                                {"l", good},
                                {"m", good}})),
                StartsWith("digest mismatch for layer " + digest_of(bad)));
    EXPECT_EQ(files("manifests").size(), 1U);
    EXPECT_EQ(files("layers").size(), 1U);
    EXPECT_TRUE(find_cached_image(*cache_, parse_reference("good"), PullTarget::kLayered, nullptr));
    EXPECT_THAT(files("tmp"), IsEmpty());
}

}  // namespace
}  // namespace msb::image
