// spec/protocol.md section 16, spec/sandbox-process.md section 8, conformance check 20.
#include "runtime/heartbeat.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "base/fd.h"

namespace msb::runtime {
namespace {

using namespace std::chrono_literals;
using Clock = IdleTracker::Clock;
const Clock::time_point kStart{};

TEST(Idle, CountsFromTheLastChangeOfActivity) {
    IdleTracker tracker(60s);
    tracker.observe(1, 0, kStart);
    EXPECT_FALSE(tracker.idle(kStart + 59s));
    tracker.observe(1, 0, kStart + 120s);
    EXPECT_TRUE(tracker.idle(kStart + 120s));
    tracker.observe(2, 0, kStart + 121s);
    EXPECT_FALSE(tracker.idle(kStart + 121s));
    EXPECT_EQ(tracker.deadline(), kStart + 181s);
}

TEST(Idle, NeverWithARunningSessionWithoutHeartbeatOrTimeout) {
    IdleTracker busy(60s), silent(60s), unlimited(std::nullopt);
    busy.observe(1, 1, kStart);
    unlimited.observe(1, 0, kStart);
    EXPECT_FALSE(busy.idle(kStart + 1h));
    EXPECT_FALSE(silent.idle(kStart + 1h));
    EXPECT_FALSE(unlimited.idle(kStart + 1h));
}

TEST(Idle, ZeroIsAtOnceAndHugeDoesNotOverflow) {
    IdleTracker zero(0s), huge(std::chrono::seconds::max());
    zero.observe(1, 0, kStart);
    huge.observe(1, 0, kStart);
    EXPECT_TRUE(zero.idle(kStart));
    EXPECT_FALSE(huge.idle(kStart + 24h * 365));
}

TEST(Heartbeat, FileIsPublishedWhole) {
    char pattern[] = "/tmp/runtime-beat-XXXXXX";
    const std::filesystem::path directory = ::mkdtemp(pattern);
    protocol::RuntimeHeartbeat beat{.heartbeat_seq = 3,
                                    .activity_seq = 9,
                                    .timestamp_ns = 1'700'000'000'123'456'789,
                                    .last_activity_ns = 1'700'000'000'000'000'000,
                                    .active_exec_sessions = 1};
    beat.activity_counters.exec_output_bytes = 6;
    write_heartbeat(directory, beat);
    EXPECT_EQ(
        read_file(directory / "heartbeat.json"),
        R"({"heartbeat_seq":3,"activity_seq":9,"timestamp":"2023-11-14T22:13:20.123456789Z",)"
        R"("last_activity":"2023-11-14T22:13:20Z","active_exec_sessions":1,"active_fs_streams":0,)"
        R"("active_tcp_streams":0,"activity_counters":{"host_messages":0,"guest_messages":0,)"
        R"("exec_output_bytes":6,"fs_bytes":0,"tcp_bytes":0}})");
    EXPECT_FALSE(std::filesystem::exists(directory / "heartbeat.tmp"));
    beat.timestamp_ns = UINT64_MAX;  // guest nonsense
    write_heartbeat(directory, beat);
    remove_heartbeat(directory);
    EXPECT_TRUE(std::filesystem::is_empty(directory));
    std::filesystem::remove_all(directory);
    write_heartbeat(directory, beat);  // nowhere to write: nothing happens
}

}  // namespace
}  // namespace msb::runtime
