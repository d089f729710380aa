// spec/sandbox-process.md section 12, conformance check 14.
#include "contract/exec_log.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

namespace msb::contract {
namespace {

constexpr std::int64_t kTime = 1'700'000'000'123'000'000;

std::string line(LogSource source, std::string_view data, std::optional<std::uint64_t> id) {
    std::string out;
    append_exec_log_line(out, kTime, source, data, id);
    return out;
}

TEST(ExecLogLine, InvalidUtf8IsReplacedPerMaximalSubsequence) {
    EXPECT_EQ(line(LogSource::kStdout, "\xff\xfehi", 1),
              "{\"t\":\"2023-11-14T22:13:20.123Z\",\"s\":\"stdout\",\"d\":"
              "\"\xef\xbf\xbd\xef\xbf\xbdhi\",\"id\":1}\n");
    EXPECT_NE(line(LogSource::kStdout, "a\xe2\x82", 1).find("\"a\xef\xbf\xbd\""),
              std::string::npos);
}

TEST(ExecLogLine, MarkerHasSeventyEightBytes) {
    EXPECT_EQ(line(LogSource::kSystem, kStoppedMarker, std::nullopt).size(), 78u);
    EXPECT_EQ(line(LogSource::kSystem, kStoppedMarker, std::nullopt),
              "{\"t\":\"2023-11-14T22:13:20.123Z\",\"s\":\"system\",\"d\":\"--- sandbox stopped "
              "---\\n\"}\n");
}

TEST(ExecLogLine, Escapes) {
    EXPECT_NE(line(LogSource::kOutput, std::string_view("\"\\\b\f\n\r\t\x01\x1f\x7f/\0", 12), 1)
                  .find(R"("\"\\\b\f\n\r\t\u0001\u001f)"
                        "\x7f"
                        R"(/\u0000")"),
              std::string::npos);
    EXPECT_NE(line(LogSource::kStdout, "grüße €𝄞", 1).find("grüße €𝄞"), std::string::npos);
}

// The block scanner must find a special byte wherever it stands.
TEST(ExecLogLine, EveryByteAtEveryPosition) {
    for (int byte = 0; byte < 256; ++byte) {
        for (std::size_t position = 0; position < 20; ++position) {
            std::string data(20, 'a');
            data[position] = static_cast<char>(byte);
            const auto parsed = parse_exec_log_line(line(LogSource::kStdout, data, 1));
            ASSERT_TRUE(parsed) << byte;
            if (byte < 0x80)
                EXPECT_EQ(parsed->data, data) << byte << " at " << position;
            else
                EXPECT_EQ(parsed->data.size(), 22u) << byte << " at " << position;
        }
    }
}

TEST(ExecLogLine, ReaderHonoursBase64AndRejectsTornLines) {
    const auto entry = parse_exec_log_line(
        R"({"t":"2026-11-21T22:51:05.161Z","s":"stderr","d":"/wBi","e":"b64","id":9,"x":1})");
    ASSERT_TRUE(entry);
    EXPECT_EQ(entry->data, std::string("\xff\x00"
                                       "b",
                                       3));
    EXPECT_EQ(entry->source, LogSource::kStderr);
    EXPECT_EQ(entry->id, 9u);
    const auto literal =
        parse_exec_log_line(R"({"t":"2026-11-21T22:51:05.161Z","s":"stdout","d":"%%","e":"b64"})");
    ASSERT_TRUE(literal);
    EXPECT_EQ(literal->data, "%%");
    for (const char* bad :
         {"", "{", R"({"t":"2026-11-21T22:51:05.161Z","s":"stdo)", R"({"s":"stdout","d":"x"})",
          R"({"t":"yesterday","s":"stdout","d":"x"})",
          R"({"t":"2026-11-21T22:51:05.161Z","s":"other","d":"x"})"})
        EXPECT_FALSE(parse_exec_log_line(bad)) << bad;
}

TEST(LogFiles, RotationSetIsOldestFirst) {
    char pattern[] = "/tmp/runtime-logs-XXXXXX";
    const std::filesystem::path directory = ::mkdtemp(pattern);
    const std::filesystem::path live = directory / "exec.log";
    for (const char* suffix : {"", ".1", ".3", ".5"})
        std::ofstream(live.string() + suffix) << "x";
    const auto files = log_rotation_set(live);
    ASSERT_EQ(files.size(), 3u);
    EXPECT_EQ(files[0].extension(), ".3");
    EXPECT_EQ(files[1].extension(), ".1");
    EXPECT_EQ(files[2], live);
    std::filesystem::remove_all(directory);
}

TEST(LogFiles, LeadingStampOfARuntimeLogLine) {
    EXPECT_EQ(log_line_timestamp("2023-11-14T22:13:20.123000Z  INFO msb: x"), kTime);
    EXPECT_EQ(log_line_timestamp("panic at something"), std::nullopt);
    EXPECT_EQ(log_line_timestamp(""), std::nullopt);
}

}  // namespace
}  // namespace msb::contract
