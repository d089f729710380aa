#include <microsandbox/sandbox.h>
#include <sys/stat.h>

#include <fstream>
#include <thread>

#include "sdk/log_cursor.h"
#include "sdk/log_reader.h"
#include "sdk_fixture.h"

namespace msb::test {
namespace {

using namespace microsandbox;
using sdk::LogPosition;
using ::testing::ElementsAre;

Timestamp at(std::int64_t millis) {
    return Timestamp(std::chrono::milliseconds(millis));
}
std::string line(int second, const std::string& source, const std::string& data,
                 const std::string& rest = ",\"id\":1") {
    char stamp[64];
    std::snprintf(stamp, sizeof stamp, "2026-01-01T00:00:%02d.000Z", second);
    return "{\"t\":\"" + std::string(stamp) + "\",\"s\":\"" + source + "\",\"d\":\"" + data + "\"" +
           rest + "}\n";
}
constexpr std::int64_t kStart = 1767225600000;  // 2026-01-01T00:00:00Z in ms

class LogsTest : public HomeTest {
  protected:
    LogsTest() { std::filesystem::create_directories(logs_ = home_ / "sandboxes/box/logs"); }
    void log(const std::string& name, const std::string& content, bool append = false) {
        std::ofstream out(logs_ / name, append ? std::ios::app : std::ios::trunc);
        out << content;
    }
    // What contract's writer does when the file is full.
    void rotate() {
        for (int i = 3; i >= 1; --i) {
            std::error_code ignored;
            std::filesystem::rename(logs_ / ("exec.log." + std::to_string(i)),
                                    logs_ / ("exec.log." + std::to_string(i + 1)), ignored);
        }
        std::filesystem::rename(logs_ / "exec.log", logs_ / "exec.log.1");
        log("exec.log", "");
    }
    std::uint64_t inode(const std::string& name) {
        struct stat info{};
        EXPECT_EQ(::stat((logs_ / name).c_str(), &info), 0);
        return info.st_ino;
    }
    static std::vector<std::string> data(const std::vector<LogEntry>& entries) {
        std::vector<std::string> result;
        for (const LogEntry& entry : entries)
            result.push_back(entry.data);
        return result;
    }
    static std::vector<std::string> drain(LogStream& stream) {
        std::vector<std::string> result;
        while (auto entry = stream.recv())
            result.push_back(entry->data);
        return result;
    }
    std::filesystem::path logs_;
};

TEST(LogCursor, GoldenTexts) {
    EXPECT_EQ(sdk::encode_log_cursor({}), "AA==");
    EXPECT_EQ(sdk::encode_log_cursor({{1234, 56}}), "AdIEAAAAAAAAOAAAAAAAAAA=");
    EXPECT_EQ(sdk::encode_log_cursor({{1234, 56}, {1235, 0}}),
              "AtIEAAAAAAAAOAAAAAAAAADTBAAAAAAAAAAAAAAAAAAA");
    EXPECT_THAT(sdk::decode_log_cursor("AtIEAAAAAAAAOAAAAAAAAADTBAAAAAAAAAAAAAAAAAAA"),
                ElementsAre(LogPosition{1234, 56}, LogPosition{1235, 0}));
    EXPECT_TRUE(sdk::decode_log_cursor("AA==").empty());
    EXPECT_EQ(text_of([] { sdk::decode_log_cursor("AQ=="); }),
              "invalid cursor: cursor payload has unexpected length (1 bytes)");
    EXPECT_EQ(text_of([] { sdk::decode_log_cursor(""); }),
              "invalid cursor: cursor payload has unexpected length (0 bytes)");
    EXPECT_EQ(text_of([] { sdk::decode_log_cursor("%%"); }),
              "invalid cursor: cursor is not valid base64");
}

TEST_F(LogsTest, NeedsOnlyTheDirectory) {
    EXPECT_TRUE(Sandbox::logs("box").empty());
    EXPECT_EQ(text_of([] { Sandbox::logs("nosuch"); }), "sandbox not found: nosuch");
    EXPECT_EQ(text_of([] { Sandbox::log_stream("nosuch"); }), "sandbox not found: nosuch");
    EXPECT_EQ(error_of([] { Sandbox::logs("../../etc"); }).code(), ErrorCode::kSandboxNotFound);
}

TEST_F(LogsTest, ReadsRotatedFilesOldestFirstAndSkipsTornLines) {
    log("exec.log.2", line(1, "stdout", "a"));
    log("exec.log.1", line(2, "stderr", "b") + "garbage\n" + "{\"t\":\n");
    log("exec.log", line(3, "output", "c") + line(4, "system", "s") + "{\"t\":\"2026-01-01T00:0");
    EXPECT_THAT(data(Sandbox::logs("box")), ElementsAre("a", "b", "c"));
    const auto entries = Sandbox::logs("box");
    EXPECT_EQ(entries[0].source, LogSource::kStdout);
    EXPECT_EQ(entries[1].source, LogSource::kStderr);
    EXPECT_EQ(entries[2].source, LogSource::kOutput);
    EXPECT_EQ(entries[0].session_id, 1u);
    EXPECT_EQ(entries[0].timestamp, at(kStart + 1000));
}

TEST_F(LogsTest, DecodesBase64AndKeepsWhatIsNot) {
    log("exec.log", line(1, "stdout", "/wA=", ",\"id\":7,\"e\":\"b64\"") +
                        line(2, "stdout", "%%", ",\"e\":\"b64\""));
    const auto entries = Sandbox::logs("box");
    ASSERT_EQ(entries.size(), 2u);
    EXPECT_EQ(entries[0].data, std::string("\xff\0", 2));
    EXPECT_EQ(entries[0].session_id, 7u);
    EXPECT_EQ(entries[1].data, "%%");
}

TEST_F(LogsTest, FiltersInOrder) {
    std::string content;
    for (int i = 0; i < 6; ++i)
        content += line(i, i % 2 ? "stderr" : "stdout", std::to_string(i));
    content += line(3, "stdout", "tie");
    log("exec.log", content);
    EXPECT_THAT(data(Sandbox::logs("box", {.sources = {LogSource::kStderr}})),
                ElementsAre("1", "3", "5"));
    EXPECT_THAT(data(Sandbox::logs("box", {.since = at(kStart + 3000)})),
                ElementsAre("3", "tie", "4", "5"))
        << "ties keep file order, since is inclusive";
    EXPECT_THAT(data(Sandbox::logs("box", {.until = at(kStart + 2000)})), ElementsAre("0", "1"))
        << "exclusive";
    EXPECT_THAT(data(Sandbox::logs("box", {.tail = 1, .until = at(kStart + 4000)})),
                ElementsAre("tie"));
    EXPECT_TRUE(Sandbox::logs("box", {.tail = 0}).empty());
}

TEST_F(LogsTest, SystemLinesComeFromThreeFiles) {
    log("exec.log", line(2, "system", "--- sandbox started ---\\n", "") + line(3, "stdout", "no"));
    log("runtime.log", "2026-01-01T00:00:01.000000Z  INFO x: first\nno stamp\n");
    log("kernel.log", "[    0.0] Linux\nlast without newline");
    const auto entries = Sandbox::logs("box", {.sources = {LogSource::kSystem}});
    ASSERT_EQ(entries.size(), 5u);
    EXPECT_EQ(entries[0].data, "2026-01-01T00:00:01.000000Z  INFO x: first\n");
    EXPECT_EQ(entries[1].data, "--- sandbox started ---\n");
    EXPECT_FALSE(entries[1].session_id);
    EXPECT_GT(entries[2].timestamp, entries[1].timestamp) << "the file's time stands in";
    EXPECT_EQ(entries.back().source, LogSource::kSystem);
}

TEST_F(LogsTest, CursorsContinueWhereTheyWereMade) {
    log("exec.log", line(1, "stdout", "a") + line(2, "stdout", "b") + line(3, "stdout", "c"));
    const auto entries = Sandbox::logs("box");
    EXPECT_EQ(entries[1].cursor,
              sdk::encode_log_cursor({{inode("exec.log"), 2 * line(1, "stdout", "a").size()}}));
    LogStream stream = Sandbox::log_stream("box", {.from_cursor = entries[1].cursor});
    EXPECT_THAT(drain(stream), ElementsAre("c"));
    const std::string end = stream.cursor();
    log("exec.log", line(4, "stdout", "d"), true);
    LogStream more = Sandbox::log_stream("box", {.from_cursor = end});
    EXPECT_THAT(drain(more), ElementsAre("d"));
    LogStream all = Sandbox::log_stream("box", {.from_cursor = "AA=="});
    EXPECT_THAT(drain(all), ElementsAre("a", "b", "c", "d"));
}

TEST_F(LogsTest, CursorsSurviveRotationUntilTheirFileIsGone) {
    log("exec.log", line(1, "stdout", "a") + line(2, "stdout", "b"));
    const std::string cursor = Sandbox::logs("box")[0].cursor;
    const std::uint64_t generation = inode("exec.log");
    rotate();
    log("exec.log", line(3, "stdout", "c"), true);
    LogStream stream = Sandbox::log_stream("box", {.from_cursor = cursor});
    EXPECT_THAT(drain(stream), ElementsAre("b", "c"));
    // Keep the inode in use so that it cannot come back as another file.
    std::filesystem::rename(logs_ / "exec.log.1", logs_ / "elsewhere");
    EXPECT_EQ(text_of([&] { Sandbox::log_stream("box", {.from_cursor = cursor}); }),
              "invalid cursor: exec.log generation " + std::to_string(generation) +
                  " is not in the current rotation chain");
}

TEST_F(LogsTest, StreamsFollowRotationWithoutLosingLines) {
    log("exec.log", line(1, "stdout", "a"));
    LogStream stream = Sandbox::log_stream("box", {.follow = true});
    EXPECT_EQ(stream.recv()->data, "a");
    log("exec.log", line(2, "stdout", "b"), true);
    rotate();
    log("exec.log", line(3, "stdout", "c"), true);
    rotate();
    log("exec.log", line(4, "stdout", "d"), true);
    EXPECT_EQ(stream.recv()->data, "b");
    EXPECT_EQ(stream.recv()->data, "c");
    EXPECT_EQ(stream.recv()->data, "d");
    bool timed_out = false;
    EXPECT_FALSE(stream.recv_for(std::chrono::milliseconds(1), timed_out));
    EXPECT_TRUE(timed_out);
}

TEST_F(LogsTest, AStreamThatWasOvertakenSaysSo) {
    log("exec.log", line(1, "stdout", "a"));
    const std::size_t offset = line(1, "stdout", "a").size();
    LogStream stream = Sandbox::log_stream("box", {.follow = true});
    EXPECT_EQ(stream.recv()->data, "a");
    rotate();
    std::filesystem::rename(logs_ / "exec.log.1", logs_ / "elsewhere");
    log("exec.log", line(3, "stdout", "c"), true);
    const Error error = error_of([&] { stream.recv(); });
    EXPECT_EQ(error.code(), ErrorCode::kMissedRotation);
    EXPECT_EQ(std::string(error.what()),
              "log stream missed rotation (dropped from offset " + std::to_string(offset) + ")");
}

TEST_F(LogsTest, FollowingWaitsForLinesToBeComplete) {
    LogStream stream = Sandbox::log_stream("box", {.follow = true});
    const std::string whole = line(1, "stdout", "late");
    std::jthread writer([&] {
        log("exec.log", whole.substr(0, 20));
        log("exec.log", whole.substr(20), true);
    });
    auto entry = stream.recv();
    ASSERT_TRUE(entry);
    EXPECT_EQ(entry->data, "late");
    std::stop_source source;
    std::jthread asker([&] { source.request_stop(); });
    EXPECT_EQ(error_of([&] { stream.recv(source.get_token()); }).code(), ErrorCode::kCancelled);
}

TEST_F(LogsTest, StreamsEndAtUntilAndSkipUpToSince) {
    log("exec.log", line(1, "stdout", "a") + line(2, "stdout", "b") + line(3, "stdout", "c") +
                        line(1, "stdout", "d"));
    LogStream stream = Sandbox::log_stream(
        "box", {.since = at(kStart + 2000), .until = at(kStart + 3000), .follow = true});
    EXPECT_THAT(drain(stream), ElementsAre("b"));
    EXPECT_EQ(text_of([] { Sandbox::log_stream("box", {.since = at(0), .from_cursor = "AA=="}); }),
              "invalid config: since and from_cursor are mutually exclusive");
}

TEST_F(LogsTest, ATruncatedKernelLogIsReadFromItsNewBeginning) {
    log("kernel.log", "old boot, a longer text\n");
    LogStream stream =
        Sandbox::log_stream("box", {.sources = {LogSource::kSystem}, .follow = true});
    EXPECT_EQ(stream.recv()->data, "old boot, a longer text\n");
    log("kernel.log", "new\n");  // same inode, shorter
    EXPECT_EQ(stream.recv()->data, "new\n");
}

TEST(LogParser, SkipsLinesBeyondTheLimitAndCountsThem) {
    sdk::LogParser parser(sdk::LogFormat::kExecLog, sdk::LogSourceSet::of({}));
    std::vector<sdk::ReadEntry> entries;
    const std::string chunk(1u << 20, 'x');
    std::size_t fed = 0;
    for (; fed <= sdk::kMaxLogLineBytes; fed += chunk.size())
        parser.feed(chunk, 0, entries);
    parser.feed("\n" + line(1, "stdout", "after"), 0, entries);
    ASSERT_EQ(entries.size(), 1u);
    EXPECT_EQ(entries[0].entry.data, "after");
    EXPECT_EQ(entries[0].after.offset, fed + 1 + line(1, "stdout", "after").size());
}

TEST(LogParser, BytewiseFeedingGivesTheSameEntries) {
    const std::string text = line(1, "stdout", "a\\nb") + "junk\n" + line(2, "stderr", "\\u0000");
    sdk::LogParser whole(sdk::LogFormat::kExecLog, sdk::LogSourceSet::of({}));
    sdk::LogParser bytewise(sdk::LogFormat::kExecLog, sdk::LogSourceSet::of({}));
    std::vector<sdk::ReadEntry> a, b;
    whole.feed(text, 0, a);
    for (char c : text)
        bytewise.feed(std::string_view(&c, 1), 0, b);
    ASSERT_EQ(a.size(), 2u);
    ASSERT_EQ(b.size(), 2u);
    for (std::size_t i = 0; i < 2; ++i) {
        EXPECT_EQ(a[i].entry.data, b[i].entry.data);
        EXPECT_EQ(a[i].after, b[i].after);
    }
}

}  // namespace
}  // namespace msb::test
