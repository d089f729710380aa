// `msb logs` lines (spec/cli.md sections 6 and 12.7).
#include "cli/log_format.h"

#include <gtest/gtest.h>

#include "base/time.h"
#include "value_error.h"

namespace msb::cli {
namespace {

LogLine entry(std::string_view data, std::optional<std::uint64_t> session = 1) {
    return {.time_ns = *parse_timestamp("2026-04-30T20:32:59.690Z"),
            .source = session ? "stdout" : "system",
            .session = session,
            .data = data};
}

TEST(Logs, MatchTheContractsExamples) {
    const auto line = entry("hello\nworld\n");
    EXPECT_EQ(format_log(line, {}), "hello\nworld\n");
    EXPECT_EQ(format_log(line, {.timestamps = true}),
              "2026-04-30T20:32:59.690Z\thello\n                        \tworld\n");
    EXPECT_EQ(format_log(line, {.show_id = true}), "[id:  1] hello\n[id:  1] world\n");
    EXPECT_EQ(format_log(line, {.json = true}),
              "{\"d\":\"hello\\nworld\\n\",\"e\":null,\"id\":1,\"s\":\"stdout\",\"t\":\"2026-04-"
              "30T20:32:59.690Z\"}\n");
    EXPECT_EQ(format_log(line, {.color_sessions = true, .strip_ansi = false}),
              "\x1b[35m[id:  1]\x1b[0m \x1b[35mhello\x1b[0m\n\x1b[35m[id:  1]\x1b[0m "
              "\x1b[35mworld\x1b[0m\n");
}

TEST(Logs, OnlyTheFirstBlankLineGetsAPrefix) {
    EXPECT_EQ(format_log(entry("\nx"), {.timestamps = true}),
              "2026-04-30T20:32:59.690Z\t\n                        \tx");
    EXPECT_EQ(format_log(entry("a\n\nb\n\n", 2), {.show_id = true}),
              "[id:  2] a\n\n[id:  2] b\n\n");
    EXPECT_EQ(format_log(entry(""), {.timestamps = true, .show_id = true}), "");
    EXPECT_EQ(format_log(entry("\nx", 1234), {.color_sessions = true, .strip_ansi = false}),
              "\x1b[32m[id:1234]\x1b[0m \n\x1b[32m[id:1234]\x1b[0m \x1b[32mx\x1b[0m");
}

TEST(Logs, SystemLinesHaveNoNumberAndNoColor) {
    EXPECT_EQ(format_log(entry("up\n", std::nullopt), {.show_id = true}), "[id:sys] up\n");
    EXPECT_EQ(
        format_log(entry("up\n", std::nullopt), {.color_sessions = true, .strip_ansi = false}),
        "[id:sys] up\n");
    EXPECT_EQ(format_log(entry("up\n", std::nullopt), {.json = true}),
              "{\"d\":\"up\\n\",\"e\":null,\"id\":null,\"s\":\"system\",\"t\":\"2026-04-30T20:32:"
              "59.690Z\"}\n");
}

TEST(Logs, BytesThatAreNoTextAreEncodedInJson) {
    EXPECT_EQ(
        format_log(entry("\xff"), {.json = true}),
        "{\"d\":\"/"
        "w==\",\"e\":\"b64\",\"id\":1,\"s\":\"stdout\",\"t\":\"2026-04-30T20:32:59.690Z\"}\n");
    EXPECT_EQ(format_log(entry("\xff"), {}), "\uFFFD");
}

TEST(Ansi, SequencesOfEveryKindGo) {
    EXPECT_EQ(strip_ansi("\x1b[31mred\x1b[0m\r\n"), "red\r\n");
    EXPECT_EQ(strip_ansi("\x1b]0;title\x07x\x1b(B\x1b[?25ly\x1bMz\n"), "xyz\n");
    EXPECT_EQ(strip_ansi("a\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\b"), "alinkb");
    EXPECT_EQ(strip_ansi("a\x1bPq#0\x1b\\b"), "ab");
    for (const std::string tail : {"\x1b", "\x1b[", "\x1b[31", "\x1b]0;x", "\x1b("})
        EXPECT_EQ(strip_ansi("a" + tail), "a");
}

TEST(Grep, IsLinearAndAnchorsAtTheEnds) {
    EXPECT_TRUE(LogFilter("h.*o").matches("xx hello yy"));
    EXPECT_FALSE(LogFilter("^b$").matches("a\nb\n"));
    EXPECT_EQ(error_of([] { return LogFilter("("), 0; }), "invalid --grep regex");
    EXPECT_FALSE(LogFilter("(a*)*b").matches(std::string(100'000, 'a'))) << "no backtracking";
}

}  // namespace
}  // namespace msb::cli
