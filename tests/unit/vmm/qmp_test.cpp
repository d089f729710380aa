#include "vmm/qmp.h"

#include <gmock/gmock.h>
#include <unistd.h>

namespace msb::vmm {
namespace {

TEST(QmpMessageTest, ReadsTheGreeting) {
    const auto message = parse_qmp_message(
        R"({"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, "capabilities": ["oob"]}})");
    ASSERT_TRUE(message);
    EXPECT_EQ(message->kind, QmpMessage::Kind::kGreeting);
    EXPECT_EQ(message->version_major, 7u);
    EXPECT_EQ(message->version_minor, 2u);
    EXPECT_EQ(message->version_micro, 22u);
}

TEST(QmpMessageTest, ReadsEvents) {
    auto message = parse_qmp_message(
        R"({"timestamp": {"seconds": 1, "microseconds": 2}, "event": "SHUTDOWN", "data": {"guest": true, "reason": "guest-reset"}})");
    ASSERT_TRUE(message);
    EXPECT_EQ(message->kind, QmpMessage::Kind::kEvent);
    EXPECT_EQ(message->event, "SHUTDOWN");
    EXPECT_EQ(message->reason, "guest-reset");
    EXPECT_TRUE(message->guest_requested);
    message = parse_qmp_message(R"({"event":"BALLOON_CHANGE","data":{"actual":268435456}})");
    ASSERT_TRUE(message);
    EXPECT_EQ(message->balloon_actual, 268435456u);
}

TEST(QmpMessageTest, UnknownEventsAndAnswersAreMessagesToo) {
    EXPECT_EQ(parse_qmp_message(R"({"event":"NEWS","data":[1,2]})")->event, "NEWS");
    const auto answer = parse_qmp_message(R"({"return": {"surprise": {}}, "id": 9})");
    ASSERT_TRUE(answer);
    EXPECT_EQ(answer->kind, QmpMessage::Kind::kReturn);
    EXPECT_EQ(answer->id, 9u);
    const auto error =
        parse_qmp_message(R"({"error":{"class":"GenericError","desc":"no"},"id":3})");
    ASSERT_TRUE(error);
    EXPECT_EQ(error->error, "GenericError: no");
}

TEST(QmpMessageTest, ReadsThreadIds) {
    const auto message = parse_qmp_message(
        R"({"return":[{"thread-id":12,"cpu-index":0},{"thread-id":-1},{"x":1},"y"],"id":2})");
    ASSERT_TRUE(message);
    EXPECT_THAT(message->thread_ids, ::testing::ElementsAre(12, -1));
}

TEST(QmpMessageTest, RefusesEverythingElse) {
    for (const char* line :
         {"", "x", "[]", "1", "null", "{}", R"({"event":1})", R"({"QMP":1})", R"({"QMP":{}})",
          R"({"QMP":{"version":{"qemu":3}}})"
          "x",
          "{\"event\":\"A\"", "\xff\xfe"})
        EXPECT_FALSE(parse_qmp_message(line)) << line;
    // Nesting beyond what the JSON reader takes, not a crash.
    EXPECT_FALSE(parse_qmp_message(std::string(100'000, '[')));
}

TEST(QmpMessageTest, NumbersOutOfRangeAreNotNumbers) {
    const auto message = parse_qmp_message(R"({"event":"BALLOON_CHANGE","data":{"actual":-5}})");
    ASSERT_TRUE(message);
    EXPECT_FALSE(message->balloon_actual);
}

TEST(QmpLineBufferTest, JoinsAndCutsLines) {
    QmpLineBuffer buffer;
    EXPECT_TRUE(buffer.append("on"));
    EXPECT_FALSE(buffer.next_line());
    EXPECT_TRUE(buffer.append("e\r\ntwo\n\nthr"));
    EXPECT_EQ(buffer.next_line(), "one");
    EXPECT_EQ(buffer.next_line(), "two");
    EXPECT_EQ(buffer.next_line(), "");
    EXPECT_FALSE(buffer.next_line());
    EXPECT_TRUE(buffer.append("ee\n"));
    EXPECT_EQ(buffer.next_line(), "three");
}

TEST(QmpLineBufferTest, AnEndlessLineIsRefused) {
    QmpLineBuffer buffer;
    EXPECT_TRUE(buffer.append(std::string(kMaxQmpLine, 'x')));
    EXPECT_FALSE(buffer.append("x"));
}

class QmpClientTest : public ::testing::Test {
  protected:
    QmpClientTest() {
        auto [mine, theirs] = make_socketpair();
        client_.emplace(std::move(mine));
        engine_ = std::move(theirs);
    }
    void say(std::string_view text) { ASSERT_EQ(write_all(engine_.get(), text), 0); }

    std::optional<QmpClient> client_;
    UniqueFd engine_;
};

TEST_F(QmpClientTest, SendsNumberedCommands) {
    EXPECT_EQ(client_->send("qmp_capabilities"), 1u);
    EXPECT_EQ(client_->send("balloon", R"({"value":5})"), 2u);
    std::string text(256, '\0');
    text.resize(static_cast<std::size_t>(::read(engine_.get(), text.data(), text.size())));
    EXPECT_EQ(text,
              "{\"execute\":\"qmp_capabilities\",\"id\":1}\n"
              "{\"execute\":\"balloon\",\"arguments\":{\"value\":5},\"id\":2}\n");
}

TEST_F(QmpClientTest, NothingToReadIsNotAnEnd) {
    EXPECT_TRUE(client_->receive().empty());
    EXPECT_FALSE(client_->closed());
}

TEST_F(QmpClientTest, EndOfStreamClosesWithoutViolation) {
    say("{\"event\":\"STOP\"}\n{\"event\":\"half");
    engine_.reset();
    EXPECT_EQ(client_->receive().size(), 1u);
    EXPECT_TRUE(client_->receive().empty());
    EXPECT_TRUE(client_->closed());
    EXPECT_EQ(client_->violation(), "");
}

TEST_F(QmpClientTest, GarbageIsAViolationAndEarlierMessagesSurvive) {
    say("{\"event\":\"STOP\"}\nGET / HTTP/1.1\n{\"event\":\"RESUME\"}\n");
    const auto messages = client_->receive();
    ASSERT_EQ(messages.size(), 1u);
    EXPECT_EQ(messages[0].event, "STOP");
    EXPECT_TRUE(client_->closed());
    EXPECT_EQ(client_->violation(), "the engine sent something that is not QMP");
}

TEST_F(QmpClientTest, AnEndlessLineIsAViolation) {
    set_nonblocking(engine_.get(), true);
    const std::string chunk(4096, 'x');
    std::size_t sent = 0;
    while (!client_->closed() && sent < 4 * kMaxQmpLine) {
        if (const ssize_t n = ::write(engine_.get(), chunk.data(), chunk.size()); n > 0)
            sent += static_cast<std::size_t>(n);
        EXPECT_TRUE(client_->receive().empty());
    }
    EXPECT_EQ(client_->violation(), "the engine sent a QMP message that is too long");
    EXPECT_LE(sent, kMaxQmpLine + 2 * 64 * 1024);
}

TEST_F(QmpClientTest, AnEngineThatDoesNotReadIsAViolation) {
    for (int i = 0; i < 100'000 && !client_->closed(); ++i)
        client_->send("query-status");
    EXPECT_EQ(client_->violation(), "the engine does not read its control channel");
}

}  // namespace
}  // namespace msb::vmm
