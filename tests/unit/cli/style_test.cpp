// Colours, tables, details, numbers (spec/cli.md section 1.5).
#include "cli/style.h"

#include <gtest/gtest.h>

#include "cli/suggest.h"

namespace msb::cli {
namespace {

TEST(Colors, FollowStandardOutputAndTheEnvironment) {
    EXPECT_TRUE(colors_wanted({.terminal = true, .term = "xterm"}));
    EXPECT_FALSE(colors_wanted({.terminal = false, .term = "xterm"}));
    EXPECT_FALSE(colors_wanted({.terminal = true, .no_color = true, .term = "xterm"}));
    EXPECT_FALSE(colors_wanted({.terminal = true, .clicolor = "0", .term = "xterm"}));
    EXPECT_FALSE(colors_wanted({.terminal = true, .term = "dumb"}));
    EXPECT_FALSE(colors_wanted({.terminal = true}));
    EXPECT_TRUE(colors_wanted({.terminal = false, .no_color = true, .clicolor_force = "1"}));
    EXPECT_FALSE(colors_wanted({.terminal = false, .clicolor_force = "0", .term = "xterm"}));
}

TEST(Colors, AreTheContractsSequences) {
    EXPECT_EQ(paint("error:", Tone::kError, true), "\x1b[31m\x1b[1merror:\x1b[0m");
    EXPECT_EQ(paint("✓", Tone::kGood, true), "\x1b[32m✓\x1b[0m");
    EXPECT_EQ(paint("x", Tone::kError, false), "x");
}

TEST(Table, PadsToTheWidestAndFour) {
    EXPECT_EQ(render_table({"NAME", "IMAGE", "S"},
                           {{{"a"}, {"./x.raw"}, {"stopped"}}, {{"b-long"}, {"é"}, {"x"}}}, false),
              "NAME      IMAGE      S\n"
              "a         ./x.raw    stopped\n"
              "b-long    é          x\n");
    EXPECT_EQ(render_table({"NAME"}, {}, false), "");
    EXPECT_EQ(render_table({"A", "B"}, {{{"x", Tone::kDim}, {"y"}}}, true),
              "\x1b[36m\x1b[1mA    B\x1b[0m\n\x1b[2mx\x1b[0m    y\n");
}

TEST(Details, LongLabelsTouchTheirValue) {
    EXPECT_EQ(detail("Name", "x"), "Name:           x\n");
    EXPECT_EQ(detail("Deployment Profile", "single-tenant"), "Deployment Profile:single-tenant\n");
    EXPECT_EQ(indented_detail("CPU Placement", "inherit"), "  CPU Placement:inherit\n");
    EXPECT_EQ(indented_detail("CPUs", "2"), "  CPUs:         2\n");
}

TEST(Lines, ActionsAreAligned) {
    EXPECT_EQ(action_line("✓", Tone::kGood, "Started", "box"), "   ✓ Started      box");
}

TEST(Numbers, AreForPeople) {
    EXPECT_EQ(format_bytes(1023), "1023 B");
    EXPECT_EQ(format_bytes(1024), "1.0 KiB");
    EXPECT_EQ(format_bytes(1536ull << 20), "1.5 GiB");
    EXPECT_EQ(format_bytes(5ull << 50), "5120.0 TiB");
    EXPECT_EQ(format_mib(512), "512 MiB");
    EXPECT_EQ(format_mib(2048), "2 GiB");
    EXPECT_EQ(format_mib(1025), "1025 MiB");
    EXPECT_EQ(format_elapsed(12340), "12.3s");
    EXPECT_EQ(format_elapsed(125000), "2m5s");
    EXPECT_EQ(format_elapsed(7265000), "121m5s");
    EXPECT_EQ(format_latency(700'000), "700us");
    EXPECT_EQ(format_latency(8'400'000), "8ms");
    EXPECT_EQ(format_latency(1'240'000'000), "1.2s");
}

TEST(Printable, HostileTextCannotDriveTheTerminal) {
    EXPECT_EQ(printable("a\x1b[2Jb\nc\x7f"), "a\uFFFD[2Jb\nc\uFFFD");
    EXPECT_EQ(printable("\xc2\x9b"
                        "2J é"),
              "\uFFFD2J é")
        << "C1 controls too";
}

TEST(Suggestions, AreJaros) {
    EXPECT_EQ(jaro("", ""), 1.0);
    EXPECT_EQ(jaro("a", ""), 0.0);
    EXPECT_NEAR(jaro("martha", "marhta"), 0.9444, 0.0001);
    EXPECT_NEAR(jaro("dixon", "dicksonx"), 0.7667, 0.0001);
    EXPECT_EQ(similar_words("lst", {"stop", "ls", "list", "run"}),
              (std::vector<std::string_view>{"stop", "ls", "list"}));
    EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
    EXPECT_EQ(edit_distance(std::string(65, 'a'), "a"), SIZE_MAX);
}

}  // namespace
}  // namespace msb::cli
