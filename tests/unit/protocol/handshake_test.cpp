#include "protocol/handshake.h"

#include <set>

#include <gtest/gtest.h>

#include "support/hex_bytes.h"

namespace msb::protocol {
namespace {

using test::from_hex;
using test::to_hex;

std::expected<HandshakeHead, std::string> parse(std::string_view hex) {
    const auto bytes = from_hex(hex);
    return parse_handshake_head(std::span<const std::byte, 8>(bytes.data(), 8));
}

// Whether the words are a legacy handshake; false also for refused ones.
bool is_legacy(std::string_view hex) {
    const auto head = parse(hex);
    return head && head->legacy;
}

std::string parse_error(std::string_view hex) {
    const auto head = parse(hex);
    return head ? "accepted" : head.error();
}

// --- ranges -----------------------------------------------------------------------------------------------------

TEST(IdRanges, MatchTheGoldenWords) {
    EXPECT_EQ(id_range(0), (IdRange{1, 33554431}));
    EXPECT_EQ(id_range(1), (IdRange{33554432, 67108862}));
    EXPECT_EQ(id_range(127), (IdRange{4261412738, 4294967168}));
    EXPECT_EQ(to_hex(encode_handshake_head(id_range(0))), "0000000101ffffff");
    EXPECT_EQ(to_hex(encode_handshake_head(id_range(1))), "0200000003fffffe");
    EXPECT_EQ(to_hex(encode_handshake_head(id_range(127))), "fdffff82ffffff80");
}

TEST(IdRanges, EverySlotOwnsItsIds) {
    for (std::uint32_t slot = 0; slot < kMaxClients; ++slot) {
        const IdRange range = id_range(slot);
        for (const std::uint32_t id : {range.start, range.start + 1, range.end_exclusive - 1}) {
            EXPECT_TRUE(range.contains(id));
            EXPECT_EQ(slot_of(id), slot) << id;
            EXPECT_EQ(owner_slot(id), slot) << id;
        }
        EXPECT_FALSE(range.contains(range.start - 1));
        EXPECT_FALSE(range.contains(range.end_exclusive));
        const auto head = parse_handshake_head(encode_handshake_head(range));
        ASSERT_TRUE(head);
        EXPECT_FALSE(head->legacy);
        EXPECT_EQ(head->ids, range);
    }
    EXPECT_EQ(slot_of(0), 0u);
    EXPECT_EQ(slot_of(UINT32_MAX), 127u);
    EXPECT_EQ(owner_slot(0), 0u);
    // guest-agent.md check 21: a handle of id 3 is reachable from id 33554431, not from 33554432.
    EXPECT_EQ(owner_slot(33554431), owner_slot(3));
    EXPECT_NE(owner_slot(33554432), owner_slot(3));
}

// --- handshake --------------------------------------------------------------------------------------------------

TEST(Handshake, DetectsLegacyRelays) {
    const auto first = parse("00000000 0000005c");
    ASSERT_TRUE(first);
    EXPECT_TRUE(first->legacy);
    EXPECT_EQ(first->ids, (IdRange{1, 268435455}));
    const auto second = parse("0fffffff 0000005c");
    ASSERT_TRUE(second);
    EXPECT_TRUE(second->legacy);
    EXPECT_EQ(second->ids, (IdRange{268435456, 536870910}));
    EXPECT_TRUE(is_legacy("00000000 00000005"));
    EXPECT_TRUE(is_legacy("00000000 00400000"));
    EXPECT_FALSE(is_legacy("00000000 00000004")) << "shorter than any frame";
    EXPECT_FALSE(is_legacy("00000000 00400001")) << "longer than any frame";
    EXPECT_FALSE(is_legacy("00000001 0000005c")) << "a range of ids below 92";
    EXPECT_TRUE(is_legacy("0000005c 0000005c"));
}

TEST(Handshake, RefusesEmptyRanges) {
    EXPECT_EQ(parse_error("00500000 00500000"),
              "invalid relay id range: start=5242880, end=5242880");
    EXPECT_EQ(parse_error("00500001 00500000"),
              "invalid relay id range: start=5242881, end=5242880");
    EXPECT_EQ(parse_error("00000000 00000000"), "invalid relay id range: start=0, end=0");
    // A legacy offset at the end of the id space saturates instead of wrapping round.
    EXPECT_EQ(parse_error("ffffffff 0000005c"),
              "invalid relay id range: start=4294967295, end=4294967295");
}

struct ReadyFrame {
    FrameReader reader;
    FrameView view;
    template <class M>
    ReadyFrame(const M& message, std::uint8_t generation) {
        ByteBuffer out;
        EXPECT_TRUE(append_frame(out, 0, message, generation));
        reader.append(out);
        view = *reader.next();
    }
};

TEST(Handshake, AcceptsReadyAndNegotiates) {
    const HandshakeHead head{.ids = id_range(0)};
    const Ready ready{1, 2, 3, "0.6.18"};
    for (const auto& [peer, negotiated] : {std::pair{7, 7}, {3, 3}, {200, 7}, {1, 1}}) {
        const ReadyFrame frame(ready, static_cast<std::uint8_t>(peer));
        const auto accepted = accept_ready(head, frame.view);
        ASSERT_TRUE(accepted) << accepted.error();
        EXPECT_EQ(accepted->generation, negotiated);
        EXPECT_EQ(accepted->ready, ready);
    }
    const HandshakeHead legacy{.ids = {1, 268435455}, .legacy = true};
    EXPECT_EQ(accept_ready(legacy, ReadyFrame(ready, 7).view)->generation, 1);
}

TEST(Handshake, RefusalsInOrder) {
    const HandshakeHead head{.ids = id_range(0)};
    EXPECT_EQ(accept_ready(head, ReadyFrame(Ping{}, 7).view).error(),
              "expected core.ready frame, got core.ping");
    // No usable ids comes before the type.
    EXPECT_EQ(accept_ready({.ids = {0, 1}}, ReadyFrame(Ping{}, 7).view).error(),
              "relay id range contains no usable nonzero ids: start=0, end=1");
    const auto body = from_hex("a3 6176 07 6174 6a 636f72652e7265616479 6170 41a0");
    EXPECT_EQ(accept_ready(head, {.body = body}).error(),
              "decode ready frame: missing field `boot_time_ns`");
    EXPECT_EQ(accept_ready(head, {}).error(), "decode ready frame: unexpected end of input");
}

// --- generations ------------------------------------------------------------------------------------------------

// protocol.md check 19 and section 6.
TEST(Generations, Gating) {
    EXPECT_EQ(negotiated_generation(200), 7);
    EXPECT_EQ(negotiated_generation(3), 3);
    EXPECT_FALSE(is_supported(MessageType::kTcpConnect, 3));
    EXPECT_FALSE(is_supported(MessageType::kPing, 3));
    EXPECT_TRUE(is_supported(MessageType::kExecRequest, 3));
    EXPECT_TRUE(is_supported(MessageType::kFsRequest, 3));
    EXPECT_FALSE(is_supported(MessageType::kFsRequest, 1));
    EXPECT_TRUE(is_supported(MessageType::kPing, 6));
    EXPECT_EQ(too_old_message(MessageType::kTcpConnect, 3),
              "the sandbox runtime is too old for 'core.tcp.connect' (needs protocol generation 4, "
              "the sandbox speaks 3); "
              "restart the sandbox to update its runtime");
}

}  // namespace
}  // namespace msb::protocol
