// Images as text and JSON (spec/cli.md section 8): what registries and archives wrote must not get through as it is.
#include "cli/commands/image_view.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace msb::cli {
namespace {

using namespace microsandbox;

ImageInfo image(std::string reference) {
    ImageInfo info;
    info.reference = std::move(reference);
    return info;
}

TEST(ImageView, AbsentValuesAreDashesAndNulls) {
    EXPECT_EQ(image_table({image("x")}),
              "REFERENCE    DIGEST    SIZE    CREATED\nx            -         -       -\n");
    const auto json = image_json(image("x"));
    for (const auto* key : {"architecture", "created_at", "digest", "os", "size_bytes"})
        EXPECT_TRUE(json.at(key).is_null()) << key;
    EXPECT_EQ(image_table({}), "");
    const ImageDetail bare{image("x"), std::nullopt, {}};
    EXPECT_EQ(image_text(bare),
              "Reference:      x\nDigest:         -\nArchitecture:   -\nOS:             -\n"
              "Size:           -\nCreated:        -\n\nLayers (0)\n");
    EXPECT_TRUE(image_json(bare).at("config").is_null());
}

TEST(ImageView, DigestsAreCutBehindTheAlgorithm) {
    ImageInfo info = image("x");
    info.manifest_digest = "sha256:0123456789abcdef0123";
    EXPECT_NE(image_table({info}).find("sha256:0123456789ab "), std::string::npos);
    info.manifest_digest = "no-colon-in-this";
    EXPECT_NE(image_table({info}).find("no-colon-in- "), std::string::npos);
}

TEST(ImageView, ForeignTextCannotDriveTheTerminalOrBreakJson) {
    ImageDetail hostile{image("a\x1b[2J"), ImageConfigInfo{}, {}};
    hostile.image.os = "\x07";
    hostile.config->cmd = {"\x1b]0;x\x07", "\xff"};
    hostile.config->env = {"A=\x1b[31m"};
    hostile.config->labels = {{"\xff", "\xfe"}};
    hostile.layers.push_back({0, "sha256:\x1b\x1b", "d", "\x1b[0m", 5, std::nullopt});
    EXPECT_EQ(image_text(hostile).find_first_of("\x1b\x07"), std::string::npos);
    EXPECT_EQ(image_table({hostile.image}).find('\x1b'), std::string::npos);
    const std::string text = json_text(image_json(hostile));
    EXPECT_FALSE(nlohmann::json::parse(text, nullptr, false).is_discarded()) << text;
}

TEST(ImageView, PruneNamesOnlyWhatWasThere) {
    ImagePruneReport report;
    EXPECT_TRUE(is_empty(report));
    report.image_refs_removed = 2;
    EXPECT_FALSE(is_empty(report));
    EXPECT_EQ(prune_text(report), "  Image refs:   2\n  Manifests:    0\n  Layers:       0\n");
    report.fsmeta_removed = 1;
    report.vmdk_removed = 1;
    report.bytes_reclaimed = 34 * 1024;
    EXPECT_EQ(prune_text(report),
              "  Image refs:   2\n  Manifests:    0\n  Layers:       0\n  Fsmeta:       1\n"
              "  VMDK:         1\n  Reclaimed:    34.0 KiB\n");
    EXPECT_EQ(prune_json(report).at("bytes_reclaimed"), 34 * 1024);
}

}  // namespace
}  // namespace msb::cli
