// The pull display, frame by frame (spec/cli.md section 1.6).
#include "cli/pull_view.h"

#include <gtest/gtest.h>

#include "cli/live_region.h"

namespace msb::cli {
namespace {

using microsandbox::PullEvent;
using Kind = PullEvent::Kind;
using Lines = std::vector<std::string>;

PullEvent event(Kind kind) {
    PullEvent event;
    event.kind = kind;
    return event;
}

PullEvent resolved(std::size_t layers) {
    PullEvent event;
    event.kind = Kind::kResolved;
    event.layer_count = layers;
    return event;
}

PullEvent layer(Kind kind, std::size_t index, std::uint64_t bytes = 0,
                std::optional<std::uint64_t> total = std::nullopt, std::size_t count = 0) {
    PullEvent event;
    event.kind = kind;
    event.layer_index = index;
    event.layer_count = count;
    event.bytes = bytes;
    event.total = total;
    return event;
}

Lines shown(const PullView& view, std::size_t columns = 110, std::size_t rows = 30) {
    return view.lines("*", columns, rows, false);
}

std::string bar(std::size_t full, std::size_t rest) {
    std::string text;
    for (std::size_t i = 0; i < full; ++i)
        text += "━";
    for (std::size_t i = 0; i < rest; ++i)
        text += "╌";
    return text;
}

constexpr std::uint64_t kMiB = 1 << 20;

TEST(PullView, HeaderFollowsTheSteps) {
    PullView view("Pulling", "REF");
    EXPECT_EQ(shown(view), Lines{"   * Pulling      REF"});
    view.apply(event(Kind::kResolving));
    EXPECT_EQ(shown(view), Lines{"   * Resolving    REF..."});
    view.apply(resolved(2));
    EXPECT_EQ(shown(view).front(), "   * Pulling      REF (2 layers)");
    for (std::size_t i : {0u, 1u})
        view.apply(layer(Kind::kLayerMaterializeComplete, i));
    const std::pair<Kind, std::string> steps[] = {
        {Kind::kStitchMergingTrees, "   * Merging      REF"},
        {Kind::kStitchWritingFsmeta, "   * Writing fsmeta REF"},
        {Kind::kStitchWritingVmdk, "   * Writing vmdk REF"},
        {Kind::kStitchComplete, "   * Stitched     REF"}};
    for (const auto& [kind, text] : steps) {
        view.apply(event(kind));
        EXPECT_EQ(shown(view).front(), text);
        EXPECT_EQ(shown(view).size(), 3u);
    }
    PullView one("Pulling", "REF");
    one.apply(resolved(1));
    EXPECT_EQ(shown(one).front(), "   * Pulling      REF (1 layer)");
}

TEST(PullView, ALayerGoesThroughItsPhases) {
    PullView view("Pulling", "REF");
    view.apply(resolved(1));
    const auto line = [&] { return shown(view).at(1); };
    const std::string start = "     layer 1/1  ";
    EXPECT_EQ(line(), start + bar(0, 36) + "  waiting");
    view.apply(layer(Kind::kLayerDownloadProgress, 0, kMiB, 4 * kMiB));
    EXPECT_EQ(line(), start + bar(9, 27) + "  1.0 MiB/4.0 MiB  downloading");
    view.apply(layer(Kind::kLayerDownloadComplete, 0, 4 * kMiB));
    EXPECT_EQ(line(), start + bar(36, 0) + "  4.0 MiB/4.0 MiB  verifying");
    view.apply(layer(Kind::kLayerMaterializeStarted, 0));
    EXPECT_EQ(line(), start + bar(0, 36) + "  0 B/4.0 MiB      materializing");
    view.apply(layer(Kind::kLayerMaterializeProgress, 0, 2 * kMiB, 4 * kMiB));
    EXPECT_EQ(line(), start + bar(18, 18) + "  2.0 MiB/4.0 MiB  materializing");
    view.apply(layer(Kind::kLayerMaterializeWriting, 0));
    EXPECT_EQ(line(), start + bar(36, 0) + "  4.0 MiB/4.0 MiB  writing image");
    view.apply(layer(Kind::kLayerMaterializeComplete, 0));
    EXPECT_EQ(line(), start + "✓");
}

TEST(PullView, NumbersARegistryMadeUpDoNoHarm) {
    PullView view("Pulling", "REF");
    view.apply(layer(Kind::kLayerDownloadProgress, 7, 1, 2));
    EXPECT_EQ(shown(view).size(), 1u) << "a layer nobody announced";
    view.apply(resolved(2));
    view.apply(layer(Kind::kLayerDownloadProgress, 2, 1, 2));
    view.apply(layer(Kind::kLayerDownloadProgress, 0, 100, 10));
    view.apply(layer(Kind::kLayerDownloadProgress, 1, 5, 0));
    auto lines = shown(view);
    EXPECT_EQ(lines[1], "     layer 1/2  " + bar(36, 0) + "  100 B/10 B  downloading");
    EXPECT_EQ(lines[2], "     layer 2/2  " + bar(0, 36) + "  5 B/0 B     downloading");
    view.apply(layer(Kind::kLayerDownloadProgress, 1, UINT64_MAX, UINT64_MAX));
    view.apply(layer(Kind::kLayerDownloadProgress, 0, 3));
    lines = shown(view, 200);
    EXPECT_TRUE(lines[1].starts_with("     layer 1/2  " + bar(0, 36) + "  3 B  ")) << lines[1];
    EXPECT_NE(lines[2].find(bar(36, 0)), std::string::npos) << lines[2];
    view.apply(resolved(SIZE_MAX));
    EXPECT_LE(shown(view).size(), 29u);
}

TEST(PullView, AnArchiveOfSeveralImagesShowsOneAfterTheOther) {
    PullView view("Loading", "a.tar");
    view.apply(event(Kind::kResolving));
    EXPECT_EQ(shown(view), Lines{"   * Loading      a.tar"});
    view.apply(layer(Kind::kLayerMaterializeStarted, 1, 0, {}, 3));
    EXPECT_EQ(shown(view).front(), "   * Loading      a.tar (3 layers)");
    EXPECT_EQ(shown(view).size(), 4u);
    for (std::size_t i : {0u, 1u, 2u})
        view.apply(layer(Kind::kLayerMaterializeComplete, i, 0, {}, 3));
    view.apply(event(Kind::kStitchComplete));
    EXPECT_EQ(shown(view).size(), 4u);
    view.apply(layer(Kind::kLayerMaterializeStarted, 0, 0, {}, 1));
    EXPECT_EQ(shown(view).front(), "   * Loading      a.tar (1 layer)");
    EXPECT_EQ(shown(view).size(), 2u);
}

TEST(PullView, NothingIsWiderThanTheTerminal) {
    PullView view("Pulling", "registry.example.com:5000/a-team/some-application:2026-11-22");
    view.apply(resolved(12));
    view.apply(layer(Kind::kLayerDownloadProgress, 0, 900 * kMiB, 1000 * kMiB));
    view.apply(layer(Kind::kLayerMaterializeWriting, 1));
    view.apply(layer(Kind::kLayerMaterializeComplete, 2));
    for (std::size_t columns = 0; columns <= 120; ++columns)
        for (const auto& line : view.lines("⠋", columns, 30, true))
            EXPECT_LE(visible_width(line), columns > 1 ? columns - 1 : 1u) << columns << line;
    const auto line = [&](std::size_t columns) { return shown(view, columns).at(1); };
    EXPECT_EQ(line(100),
              "     layer  1/12  " + bar(32, 4) + "  900.0 MiB/1000.0 MiB   downloading");
    EXPECT_EQ(line(70), "     layer  1/12  " + bar(11, 2) + "  900.0 MiB/1000.0 MiB   downloading")
        << "the bar gets shorter";
    EXPECT_EQ(line(60), "     layer  1/12  " + bar(23, 3) + "  downloading") << "no amounts";
    EXPECT_EQ(line(40), "     layer  1/12  downloading") << "no bar";
}

TEST(PullView, ShowsTheLayersAtWorkWhenNotAllFit) {
    PullView view("Pulling", "REF");
    view.apply(resolved(20));
    for (std::size_t i = 0; i < 8; ++i)
        view.apply(layer(Kind::kLayerMaterializeComplete, i));
    for (std::size_t i : {9u, 10u, 19u})
        view.apply(layer(Kind::kLayerDownloadProgress, i, 1, 2));
    for (std::size_t rows = 0; rows <= 30; ++rows)
        EXPECT_LE(shown(view, 100, rows).size(), std::max<std::size_t>(rows, 2) - 1) << rows;
    const auto lines = shown(view, 100, 7);
    ASSERT_EQ(lines.size(), 6u);
    EXPECT_TRUE(lines[1].starts_with("     layer  9/20  ")) << "the first that waits";
    EXPECT_TRUE(lines[2].starts_with("     layer 10/20  "));
    EXPECT_TRUE(lines[3].starts_with("     layer 11/20  "));
    EXPECT_TRUE(lines[4].starts_with("     layer 20/20  "));
    EXPECT_EQ(lines[5], "     and 16 more: 8 done, 8 to do");
    EXPECT_EQ(shown(view, 100, 22).size(), 21u) << "all of them when there is room";
    EXPECT_EQ(shown(view, 100, 2).size(), 1u);
}

TEST(PullView, AReferenceCannotDriveTheTerminal) {
    const PullView view("Loading", "a\x1b[2J\x07.tar");
    EXPECT_EQ(shown(view).front(), "   * Loading      a\xef\xbf\xbd[2J\xef\xbf\xbd.tar");
}

TEST(LiveRegion, CutsWhatIsVisibleAndKeepsColours) {
    EXPECT_EQ(cut_visible("\x1b[35m━━╌\x1b[0m ab", 3), "\x1b[35m━━╌\x1b[0m");
    EXPECT_EQ(cut_visible("\x1b[35m━━╌\x1b[0m ab", 5), "\x1b[35m━━╌\x1b[0m a");
    EXPECT_EQ(cut_visible("abc\x1b[0m", 0), "\x1b[0m");
    EXPECT_EQ(visible_width("\x1b[35m━━╌\x1b[0m ab"), 6u);
    EXPECT_EQ(visible_width("\x1b[3"), 0u) << "an unfinished sequence";
}

TEST(LiveRegion, GoesBackToItsFirstRow) {
    EXPECT_EQ(redraw_sequence({}, {"a", "b"}, 80), "\r\x1b[?7la\x1b[K\r\nb\x1b[K\x1b[J\x1b[?7h");
    EXPECT_EQ(redraw_sequence({1, 1}, {"c"}, 80), "\r\x1b[1A\x1b[?7lc\x1b[K\x1b[J\x1b[?7h");
    EXPECT_EQ(redraw_sequence({1}, {}, 80), "\r\x1b[J");
    EXPECT_EQ(redraw_sequence({79, 40, 0}, {}, 40), "\r\x1b[3A\x1b[J")
        << "wrapped by a narrower terminal";
    EXPECT_EQ(redraw_sequence({5, 5}, {}, 0), "\r\x1b[9A\x1b[J");
}

}  // namespace
}  // namespace msb::cli
