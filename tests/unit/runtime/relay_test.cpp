// spec/protocol.md section 7 and conformance checks 5 to 9.
#include "runtime/relay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "relay_harness.h"

namespace msb::runtime::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

protocol::ExecRequest shell(bool tty = false) {
    return {.cmd = "/bin/sh", .tty = tty};
}
protocol::ExecStdout output(std::string_view text) {
    return {.data = protocol::Bytes::view(text)};
}

std::string hex_of(std::span<const std::byte> bytes) {
    std::string out;
    for (std::byte b : bytes) {
        constexpr char kDigits[] = "0123456789abcdef";
        out += kDigits[std::to_integer<int>(b) >> 4];
        out += kDigits[std::to_integer<int>(b) & 15];
    }
    return out;
}

std::vector<std::string> types(const std::vector<Frame>& frames) {
    std::vector<std::string> out;
    for (const Frame& frame : frames)
        out.push_back(frame.type + "@" + std::to_string(frame.id));
    return out;
}

// --- boot -------------------------------------------------------------------------------------------------------

TEST(RelayBoot, BootstrapIsTheFirstFrameAndTheAcknowledgementTheNext) {
    Harness h;
    ASSERT_TRUE(h.relay.send_bootstrap({}));
    h.from_guest(frame_of(0, protocol::InitResolved{.default_user = {1000, 1001}}));
    h.from_guest(frame_of(0, protocol::InitResolved{}));  // only one acknowledgement, ever
    EXPECT_THAT(types(h.guest.frames()), ElementsAre("core.bootstrap@0", "core.init.ack@0"));
    EXPECT_FALSE(h.relay.ready());
    h.from_guest(Harness::ready_frame());
    EXPECT_TRUE(h.relay.ready());
    EXPECT_EQ(h.observer.ready->agent_version, "0.6.18");
}

TEST(RelayBoot, OtherFramesBeforeReadyAreDiscarded) {
    Harness h;
    h.from_guest(frame_of(5, output("early")));
    h.from_guest(Harness::ready_frame());
    EXPECT_TRUE(h.relay.ready());
    EXPECT_THAT(h.observer.failures, IsEmpty());
}

TEST(RelayBoot, UndecodableBootFrameFailsOnce) {
    Harness h;
    h.from_guest(raw_frame(0, 0, 3));
    h.from_guest(raw_frame(0, 0, 3));
    EXPECT_THAT(h.observer.failures, SizeIs(1));
    h.from_guest(Harness::ready_frame());
    EXPECT_FALSE(h.relay.ready());
}

TEST(RelayBoot, OversizedReadyFrameIsRefused) {
    Harness h;
    protocol::Ready ready;
    ready.agent_version = std::string(kMaxReadyFrame, 'x');
    h.from_guest(frame_of(0, ready));
    EXPECT_THAT(h.observer.failures, SizeIs(1));
}

TEST(RelayBoot, NoClientIsAddedBeforeReady) {
    Harness h;
    MemoryPort client;
    EXPECT_EQ(h.relay.add_client(client), std::nullopt);
    EXPECT_THAT(client.written, IsEmpty());
}

// --- handshake and slots ----------------------------------------------------------------------------------------

TEST(RelayClients, HandshakeCarriesRangeAndReadyVerbatim) {
    Harness h;
    h.boot();
    MemoryPort first, second;
    EXPECT_EQ(h.relay.add_client(first), 0u);
    EXPECT_EQ(h.relay.add_client(second), 1u);
    const std::string ready = hex_of(Harness::ready_frame());
    EXPECT_EQ(hex_of(first.written), "0000000101ffffff" + ready);
    EXPECT_EQ(hex_of(second.written), "0200000003fffffe" + ready);
}

TEST(RelayClients, TheHundredAndTwentyNinthIsTurnedAway) {
    Harness h;
    h.boot();
    std::vector<std::unique_ptr<MemoryPort>> ports;
    for (unsigned i = 0; i < 128; ++i) {
        ports.push_back(std::make_unique<MemoryPort>());
        ASSERT_EQ(h.relay.add_client(*ports.back()), i);
    }
    EXPECT_EQ(hex_of(std::span(ports.back()->written).first(8)), "fdffff82ffffff80");
    MemoryPort late;
    EXPECT_EQ(h.relay.add_client(late), std::nullopt);
    EXPECT_THAT(late.written, IsEmpty());
    h.relay.remove_client(7);
    EXPECT_EQ(h.relay.add_client(late), 7u);
}

TEST(RelayClients, SlotsAreUsedInTurn) {
    Harness h;
    h.boot();
    MemoryPort a, b;
    EXPECT_EQ(h.relay.add_client(a), 0u);
    h.relay.remove_client(0);
    EXPECT_EQ(h.relay.add_client(b), 1u);
}

// The hazard of section 7.5: late output of a killed session must not reach the next client of its slot.
TEST(RelayClients, LateFramesOfAKilledSessionReachNobody) {
    Harness h;
    h.boot();
    std::vector<std::unique_ptr<MemoryPort>> ports;
    for (unsigned i = 0; i < 128; ++i) {
        ports.push_back(std::make_unique<MemoryPort>());
        ASSERT_TRUE(h.relay.add_client(*ports.back()));
    }
    h.from_client(3, frame_of(Relay::id_start(3), shell()));
    h.relay.remove_client(3);
    MemoryPort next;
    ASSERT_EQ(h.relay.add_client(next),
              3u);  // the only free slot, although a session lingers in it
    h.from_guest(frame_of(Relay::id_start(3), output("late")));
    h.from_guest(frame_of(Relay::id_start(3), protocol::ExecExited{.code = -1}));
    EXPECT_THAT(next.frames(Harness::handshake_bytes()), IsEmpty());
    h.from_guest(frame_of(Relay::id_start(3), output("fresh")));  // ended: the id is free again
    EXPECT_THAT(next.frames(Harness::handshake_bytes()), SizeIs(1));
}

TEST(RelayClients, SlotWithLingeringSessionIsTakenLast) {
    Harness h;
    h.boot();
    std::vector<std::unique_ptr<MemoryPort>> ports;
    for (unsigned i = 0; i < 128; ++i) {
        ports.push_back(std::make_unique<MemoryPort>());
        ASSERT_TRUE(h.relay.add_client(*ports.back()));
    }
    h.from_client(0, frame_of(Relay::id_start(0), shell()));
    h.relay.remove_client(0);
    h.relay.remove_client(1);
    MemoryPort next;
    EXPECT_EQ(h.relay.add_client(next), 1u);
}

// --- client to guest --------------------------------------------------------------------------------------------

TEST(RelayForwarding, ClientFramesGoUnchanged) {
    Harness h;
    h.boot();
    MemoryPort client;
    ASSERT_EQ(h.relay.add_client(client), 0u);
    // Flags the table does not know, an envelope that is none: the relay looks at the header only.
    auto bytes = raw_frame(9, 0x82, 40);
    const auto request = frame_of(10, shell());
    bytes.insert(bytes.end(), request.begin(), request.end());
    h.from_client(0, bytes);
    EXPECT_EQ(h.guest.written, bytes);
}

TEST(RelayForwarding, FramesMayArriveByteByByte) {
    Harness h;
    h.boot();
    MemoryPort client;
    ASSERT_EQ(h.relay.add_client(client), 0u);
    const auto frame = frame_of(1, protocol::Ping{});
    for (std::byte b : frame)
        h.from_client(0, std::span(&b, 1));
    EXPECT_EQ(h.guest.written, frame);
}

struct BadFrame {
    const char* name;
    std::vector<std::byte> bytes;
};
class RelayViolation : public ::testing::TestWithParam<BadFrame> {};

TEST_P(RelayViolation, DisconnectsAndForwardsNothing) {
    Harness h;
    h.boot();
    MemoryPort client, other;
    ASSERT_EQ(h.relay.add_client(client), 0u);
    ASSERT_EQ(h.relay.add_client(other), 1u);
    h.from_client(0, GetParam().bytes);
    EXPECT_TRUE(client.is_closed);
    EXPECT_FALSE(other.is_closed);
    EXPECT_THAT(types(h.guest.frames()), ElementsAre("core.relay.client.disconnected@0"));
    EXPECT_EQ(h.relay.counters().protocol_violations, 1u);
}

std::vector<std::byte> length_only(std::uint32_t length) {
    std::vector<std::byte> out;
    for (int shift = 24; shift >= 0; shift -= 8)
        out.push_back(static_cast<std::byte>(length >> shift));
    out.resize(out.size() + std::min<std::uint32_t>(length, 64));
    return out;
}

INSTANTIATE_TEST_SUITE_P(
    Section7, RelayViolation,
    ::testing::Values(BadFrame{"IdZeroWithoutShutdown", raw_frame(0, 0, 1)},
                      BadFrame{"IdAtTheEndOfTheRange", raw_frame(33'554'431, 0, 1)},
                      BadFrame{"IdOfAnotherClient", raw_frame(33'554'432, 4, 1)},
                      BadFrame{"LengthThree", length_only(3)},
                      BadFrame{"LengthTooLarge", length_only(4'194'305)},
                      BadFrame{"LengthHuge", length_only(0xffffffff)}),
    [](const auto& test) { return test.param.name; });

TEST(RelayForwarding, FramesBeforeAViolationAreForwarded) {
    Harness h;
    h.boot();
    MemoryPort client;
    ASSERT_EQ(h.relay.add_client(client), 0u);
    auto bytes = frame_of(1, protocol::Ping{});
    const auto bad = raw_frame(0, 0, 1);
    bytes.insert(bytes.end(), bad.begin(), bad.end());
    h.from_client(0, bytes);
    EXPECT_THAT(types(h.guest.frames()),
                ElementsAre("core.ping@1", "core.relay.client.disconnected@0"));
}

TEST(RelayForwarding, ShutdownWithIdZeroIsForwardedAndReportedOnce) {
    Harness h;
    h.boot();
    MemoryPort client;
    ASSERT_EQ(h.relay.add_client(client), 0u);
    h.from_client(0, frame_of(0, protocol::Shutdown{}));
    h.from_client(0, frame_of(0, protocol::Shutdown{}));
    h.relay.remove_client(0);  // closing right after must not take the frame back
    EXPECT_EQ(h.observer.shutdowns, 1);
    EXPECT_THAT(types(h.guest.frames()), ElementsAre("core.shutdown@0", "core.shutdown@0",
                                                     "core.relay.client.disconnected@0"));
}

TEST(RelayForwarding, AnyFrameWithTheShutdownBitStartsTheDrain) {
    Harness h;
    h.boot();
    MemoryPort client;
    ASSERT_EQ(h.relay.add_client(client), 0u);
    h.from_client(0, raw_frame(5, 4, 2));
    EXPECT_EQ(h.observer.shutdowns, 1);
}

// --- disconnect -------------------------------------------------------------------------------------------------

TEST(RelayDisconnect, KillsLiveSessionsThenReportsTheRange) {
    Harness h;
    h.boot();
    MemoryPort client;
    ASSERT_EQ(h.relay.add_client(client), 0u);
    h.from_client(0, frame_of(1, shell()));
    h.from_client(0, frame_of(2, shell()));
    h.from_client(0, frame_of(3, shell()));
    h.from_guest(frame_of(2, protocol::ExecExited{.code = 0}));
    h.guest.written.clear();
    h.relay.remove_client(0);
    const auto frames = h.guest.frames();
    ASSERT_THAT(frames, SizeIs(3));
    std::vector<std::uint32_t> killed{frames[0].id, frames[1].id};
    std::ranges::sort(killed);
    EXPECT_THAT(killed, ElementsAre(1u, 3u));
    for (int i = 0; i < 2; ++i)
        EXPECT_EQ(protocol::decode_payload<protocol::ExecSignal>(frames[i].payload)->signal, 9);
    EXPECT_EQ(hex_of(frames[2].raw),
              "000000500000000000a36176076174781e636f72652e72656c61792e636c69656e742e646973636f6e6e"
              "656374656461705821a2"
              "6869645f7374617274017069645f656e645f6578636c75736976651a01ffffff");
    EXPECT_TRUE(client.is_closed);
}

TEST(RelayDisconnect, BrokenClientIsCleanedUpWhileRouting) {
    Harness h;
    h.boot();
    MemoryPort client;
    ASSERT_EQ(h.relay.add_client(client), 0u);
    client.broken = true;
    h.from_guest(frame_of(1, output("x")));
    EXPECT_TRUE(client.is_closed);
    EXPECT_EQ(h.relay.client_count(), 0u);
}

// --- guest to clients -------------------------------------------------------------------------------------------

TEST(RelayRouting, FramesGoToTheOwnerOfTheId) {
    Harness h;
    h.boot();
    MemoryPort a, b;
    ASSERT_EQ(h.relay.add_client(a), 0u);
    ASSERT_EQ(h.relay.add_client(b), 1u);
    std::vector<std::byte> bytes;
    for (std::uint32_t id : {1u, 2u, 33'554'432u, 0u, 33'554'433u, 3u}) {
        const auto frame = frame_of(id, protocol::Pong{});
        bytes.insert(bytes.end(), frame.begin(), frame.end());
    }
    const auto nobody = frame_of(Relay::id_start(5), protocol::Pong{});
    bytes.insert(bytes.end(), nobody.begin(), nobody.end());
    h.from_guest(bytes);
    EXPECT_THAT(types(a.frames(Harness::handshake_bytes())),
                ElementsAre("core.pong@1", "core.pong@2", "core.pong@0", "core.pong@3"));
    EXPECT_THAT(types(b.frames(Harness::handshake_bytes())),
                ElementsAre("core.pong@33554432", "core.pong@33554433"));
    EXPECT_EQ(h.relay.counters().frames_dropped, 1u);
}

TEST(RelayRouting, HighestIdsBelongToTheLastSlot) {
    Harness h;
    h.boot();
    h.from_guest(frame_of(0xffffffff, protocol::Pong{}));
    EXPECT_EQ(h.relay.counters().frames_dropped, 1u);
}

TEST(RelayRouting, CorruptGuestLengthDropsTheBufferAndRoutingGoesOn) {
    Harness h;
    h.boot();
    MemoryPort client;
    ASSERT_EQ(h.relay.add_client(client), 0u);
    auto bytes = length_only(0x7fffffff);
    const auto lost = frame_of(1, output("lost with the buffer"));
    bytes.insert(bytes.end(), lost.begin(), lost.end());
    h.from_guest(bytes);
    h.from_guest(frame_of(1, output("fine")));
    EXPECT_THAT(client.frames(Harness::handshake_bytes()), SizeIs(1));
    EXPECT_EQ(h.relay.counters().guest_resyncs, 1u);
}

TEST(RelayRouting, ShortGuestFrameIsDroppedAlone) {
    Harness h;
    h.boot();
    MemoryPort client;
    ASSERT_EQ(h.relay.add_client(client), 0u);
    auto bytes = length_only(3);
    const auto good = frame_of(1, output("fine"));
    bytes.insert(bytes.end(), good.begin(), good.end());
    h.from_guest(bytes);
    EXPECT_THAT(client.frames(Harness::handshake_bytes()), SizeIs(1));
}

// --- isolation --------------------------------------------------------------------------------------------------

TEST(RelayIsolation, AClientThatDoesNotReadKeepsItsFramesAndStallsNobody) {
    Harness h;
    h.boot();
    MemoryPort slow, fast;
    ASSERT_EQ(h.relay.add_client(slow), 0u);
    ASSERT_EQ(h.relay.add_client(fast), 1u);
    slow.capacity = 100;  // cuts the first frame in the middle
    const std::string chunk(64 * 1024, 's');
    for (int i = 0; i < 80; ++i) {
        h.from_guest(frame_of(1 + i, output(chunk)));
        h.from_guest(frame_of(Relay::id_start(1) + i, output("f")));
    }
    EXPECT_THAT(fast.frames(Harness::handshake_bytes()), SizeIs(80));
    slow.capacity = std::numeric_limits<std::size_t>::max();
    h.relay.client_writable(0);
    const auto frames = slow.frames(Harness::handshake_bytes());
    ASSERT_THAT(frames, SizeIs(80));
    for (std::uint32_t i = 0; i < 80; ++i)
        EXPECT_EQ(frames[i].id, 1 + i);
}

TEST(RelayIsolation, FlowControlIsAskedForAndLiftedOnce) {
    Harness h;
    h.boot();
    MemoryPort client;
    ASSERT_EQ(h.relay.add_client(client), 0u);
    client.capacity = 0;
    const std::string chunk(64 * 1024, 's');
    for (std::size_t sent = 0; sent <= kOutputPause + chunk.size(); sent += chunk.size())
        h.from_guest(frame_of(1, output(chunk)));
    EXPECT_THAT(h.observer.flow, ElementsAre(RecordingObserver::Flow{1, 33'554'431, true}));
    client.capacity = kOutputPause / 2;
    h.relay.client_writable(0);
    EXPECT_THAT(h.observer.flow, SizeIs(1)) << "still too much is waiting";
    client.capacity = std::numeric_limits<std::size_t>::max();
    h.relay.client_writable(0);
    EXPECT_THAT(h.observer.flow, SizeIs(2));
    EXPECT_FALSE(h.observer.flow[1].paused);
}

TEST(RelayIsolation, ClientBeyondTheHardLimitIsCutOffAndCleanedUp) {
    Harness h;
    h.boot();
    MemoryPort slow, fast;
    ASSERT_EQ(h.relay.add_client(slow), 0u);
    ASSERT_EQ(h.relay.add_client(fast), 1u);
    h.from_client(0, frame_of(1, shell()));
    slow.capacity = 0;
    const std::string chunk(1024 * 1024, 's');
    for (std::size_t sent = 0; sent <= kOutputLimit && !slow.is_closed; sent += chunk.size())
        h.from_guest(frame_of(1, output(chunk)));
    EXPECT_TRUE(slow.is_closed);
    EXPECT_FALSE(fast.is_closed);
    EXPECT_EQ(h.relay.counters().clients_cut_off, 1u);
    EXPECT_THAT(types(h.guest.frames()), ElementsAre("core.exec.request@1", "core.exec.signal@1",
                                                     "core.relay.client.disconnected@0"));
    EXPECT_FALSE(h.observer.flow.back().paused)
        << "the guest must not stay paused for a client that is gone";
}

TEST(RelayIsolation, TogetherTheyMayNotExceedTheTotal) {
    Harness h;
    h.boot();
    std::vector<std::unique_ptr<MemoryPort>> ports;
    for (int i = 0; i < 8; ++i) {
        ports.push_back(std::make_unique<MemoryPort>());
        ASSERT_TRUE(h.relay.add_client(*ports.back()));
        ports.back()->capacity = 0;
    }
    const std::string chunk(2 * 1024 * 1024, 's');
    const std::size_t rounds = kTotalOutputLimit / (8 * chunk.size()) + 1;
    for (std::size_t round = 0; round < rounds; ++round)
        for (unsigned i = 0; i < 8; ++i)
            h.from_guest(frame_of(Relay::id_start(i), output(chunk)));
    EXPECT_GE(h.relay.counters().clients_cut_off, 1u);
    EXPECT_GE(h.relay.client_count(), 6u) << "only as many as needed";
}

TEST(RelayIsolation, ClientsShareABlockedGuestByWholeFrames) {
    Harness h;
    h.boot();
    MemoryPort a, b;
    ASSERT_EQ(h.relay.add_client(a), 0u);
    ASSERT_EQ(h.relay.add_client(b), 1u);
    h.guest.capacity = 50;
    const std::string chunk(48 * 1024, 'x');
    for (std::uint32_t i = 0; i < 10; ++i)
        h.from_client(0,
                      frame_of(1 + i, protocol::ExecStdin{.data = protocol::Bytes::view(chunk)}));
    h.from_client(1, frame_of(Relay::id_start(1), protocol::ExecSignal{.signal = 2}));
    h.relay.send_clock_sync(1);
    h.guest_takes(std::numeric_limits<std::size_t>::max());
    const auto frames = h.guest.frames();
    ASSERT_THAT(frames, SizeIs(12));
    const auto position = [&](std::string_view type) {
        return std::ranges::find(frames, type, &Frame::type) - frames.begin();
    };
    EXPECT_EQ(position("core.clock.sync"), 1)
        << "the relay's own frames go first, after the frame in progress";
    EXPECT_LE(position("core.exec.signal"), 3) << "one client's flood does not hold up another";
    std::uint32_t expected = 1;
    for (const Frame& frame : frames) {
        if (frame.type == "core.exec.stdin") {
            EXPECT_EQ(frame.id, expected++);
        }
    }
}

TEST(RelayIsolation, FloodingClientIsNotReadUntilItsLaneDrains) {
    Harness h;
    h.boot();
    MemoryPort a, b;
    ASSERT_EQ(h.relay.add_client(a), 0u);
    ASSERT_EQ(h.relay.add_client(b), 1u);
    h.guest.capacity = 0;
    const std::string chunk(512 * 1024, 'x');
    for (int i = 0; i < 3; ++i)
        h.from_client(0, frame_of(1, protocol::ExecStdin{.data = protocol::Bytes::view(chunk)}));
    EXPECT_FALSE(a.reading);
    EXPECT_TRUE(b.reading);
    h.guest_takes(std::numeric_limits<std::size_t>::max());
    EXPECT_TRUE(a.reading);
    EXPECT_EQ(h.relay.guest_backlog(), 0u);
}

TEST(RelayIsolation, FramesOfADisconnectedClientStillReachAGuestThatWasBlocked) {
    Harness h;
    h.boot();
    MemoryPort client;
    ASSERT_EQ(h.relay.add_client(client), 0u);
    h.guest.capacity = 7;
    h.from_client(0, frame_of(1, shell()));
    h.from_client(0, frame_of(0, protocol::Shutdown{}));
    h.relay.remove_client(0);
    h.guest_takes(std::numeric_limits<std::size_t>::max());
    EXPECT_THAT(types(h.guest.frames()),
                ElementsAre("core.exec.request@1", "core.shutdown@0", "core.exec.signal@1",
                            "core.relay.client.disconnected@0"));
}

TEST(RelayIsolation, EveryWriteSizeKeepsTheGuestStreamWhole) {
    for (std::size_t step : {1u, 2u, 3u, 5u, 9u, 13u, 100u}) {
        Harness h;
        h.boot();
        MemoryPort a, b;
        ASSERT_EQ(h.relay.add_client(a), 0u);
        ASSERT_EQ(h.relay.add_client(b), 1u);
        h.guest.capacity = step;
        for (std::uint32_t i = 0; i < 20; ++i) {
            h.from_client(0, frame_of(1 + i, protocol::Ping{}));
            h.from_client(1, frame_of(Relay::id_start(1) + i, protocol::Touch{}));
            h.relay.send_clock_sync(i);
        }
        while (h.relay.guest_backlog() > 0)
            h.guest_takes(step);
        EXPECT_THAT(h.guest.frames(), SizeIs(60)) << "step " << step;
    }
}

// --- exec.log tap -----------------------------------------------------------------------------------------------

TEST(RelayTap, RecordsEverySessionUnderItsOwnNumber) {
    Harness h;
    h.boot();
    MemoryPort a, b;
    ASSERT_EQ(h.relay.add_client(a), 0u);
    ASSERT_EQ(h.relay.add_client(b), 1u);
    h.from_client(0, frame_of(1, shell()));
    h.from_client(1, frame_of(Relay::id_start(1), shell(true)));
    h.from_guest(frame_of(1, output("out")));
    h.from_guest(frame_of(1, protocol::ExecStderr{.data = protocol::Bytes::view("err")}));
    h.from_guest(frame_of(Relay::id_start(1), output("pty")));
    h.from_guest(frame_of(1, protocol::ExecExited{.code = 0}));
    h.from_guest(frame_of(1, output("after the end")));
    h.from_guest(frame_of(7, output("no such session")));
    EXPECT_THAT(h.tap.lines, ElementsAre("1 stdout out", "1 stderr err", "2 output pty"));
}

TEST(RelayTap, UndecodableOutputIsForwardedAndNotRecorded) {
    Harness h;
    h.boot();
    MemoryPort client;
    ASSERT_EQ(h.relay.add_client(client), 0u);
    h.from_client(0, frame_of(1, shell()));
    h.from_guest(raw_frame(1, 0, 100));
    EXPECT_THAT(client.frames(Harness::handshake_bytes()), SizeIs(1));
    EXPECT_THAT(h.tap.lines, IsEmpty());
}

}  // namespace
}  // namespace msb::runtime::testing
