#include <gtest/gtest.h>

#include "protocol/cbor.h"
#include "protocol/codec.h"
#include "support/any_message.h"
#include "support/golden_frames.h"
#include "support/hex_bytes.h"

namespace msb::protocol {
namespace {

using test::AnyMessage;
using test::from_hex;
using test::to_hex;

template <class M>
std::string error_of(std::string_view hex) {
    const auto payload = from_hex(hex);
    const auto message = decode_payload<M>(payload);
    return message ? "accepted" : message.error().message;
}

std::string hex_of(const AnyMessage& message) {
    return to_hex(test::payload_of(message));
}

// Decodes what was written, writes it again: both must agree. Returns the decoded message.
template <class M>
M round_trip(const M& message) {
    const auto payload = test::payload_of(message);
    auto decoded = decode_payload<M>(payload);
    EXPECT_TRUE(decoded) << decoded.error().message;
    if (!decoded) return {};
    EXPECT_EQ(*decoded, message);
    EXPECT_EQ(to_hex(test::payload_of(*decoded)), to_hex(payload));
    if constexpr (requires { decoded->data.own(); }) decoded->data.own();
    return std::move(*decoded);
}

// --- protocol.md checks 2, 3 and 5 ------------------------------------------------------------------------------

TEST(ExecPayloads, StdinInTheFormsOtherClientsSend) {
    for (const auto hex :
         {"b900016464617461d840426869", "a164646174618218681869", "a1646461746142 6869",
          "bf 6464617461 5f 4168 4169 ff ff", "a1 6464617461 9f 1868 1869 ff"}) {
        const auto payload = from_hex(hex);
        const auto message = decode_payload<ExecStdin>(payload);
        ASSERT_TRUE(message) << hex << ": " << message.error().message;
        EXPECT_EQ(message->data.text(), "hi");
    }
    EXPECT_EQ(error_of<ExecStdin>("a16464617461626869"), "`data`: expected bytes, found text");
    EXPECT_EQ(error_of<ExecStdin>("a0"), "missing field `data`");
    EXPECT_EQ(error_of<ExecStdin>("a16464617461f6"), "`data`: expected bytes, found null");
}

TEST(ExecPayloads, DataIsAViewIntoThePayload) {
    const auto payload = from_hex("a1646461746142 6869");
    const auto message = decode_payload<ExecStdout>(payload);
    ASSERT_TRUE(message);
    EXPECT_EQ(message->data.span().data(), payload.data() + 7);
}

TEST(ExecPayloads, RequestDefaults) {
    const auto payload = from_hex("a1 63636d64 6161");
    const auto request = decode_payload<ExecRequest>(payload);
    ASSERT_TRUE(request) << request.error().message;
    EXPECT_EQ(*request, ExecRequest{.cmd = "a"});
    EXPECT_EQ(request->rows, 24);
    EXPECT_EQ(request->cols, 80);
    EXPECT_FALSE(request->tty);
}

TEST(ExecPayloads, RequestAcceptsNullOptionalsAndUnknownKeys) {
    const auto payload =
        from_hex("a5 63637764 f6 63636d64 6161 6475736572 f7 6178 a1 01 82 02 03 6178 f5");
    const auto request = decode_payload<ExecRequest>(payload);
    ASSERT_TRUE(request) << request.error().message << " (an unknown key may even repeat)";
    EXPECT_EQ(request->cwd, std::nullopt);
    EXPECT_EQ(request->user, std::nullopt);
}

TEST(ExecPayloads, RequestRefusals) {
    EXPECT_EQ(error_of<ExecRequest>("a0"), "missing field `cmd`");
    EXPECT_EQ(error_of<ExecRequest>("f6"), "expected a map, found null");
    EXPECT_EQ(error_of<ExecRequest>("80"), "expected a map, found an array");
    EXPECT_EQ(error_of<ExecRequest>("a2 63636d64 6161 63636d64 6161"), "duplicate field `cmd`");
    EXPECT_EQ(error_of<ExecRequest>("a2 63636d64 6161 64726f7773 1a00011170"),
              "`rows`: integer 70000 is out of range for u16");
    EXPECT_EQ(error_of<ExecRequest>("a2 63636d64 6161 6461726773 f6"),
              "`args`: expected an array, found null");
    EXPECT_EQ(error_of<ExecRequest>("a2 63636d64 6161 63747479 f6"),
              "`tty`: expected a bool, found null");
    EXPECT_EQ(error_of<ExecRequest>("a2 63636d64 6161 63747479 01"),
              "`tty`: expected a bool, found an integer");
    EXPECT_EQ(error_of<ExecRequest>("a2 63636d64 6161 64726f7773 f6"),
              "`rows`: expected an integer, found null");
    EXPECT_EQ(error_of<ExecRequest>("a2 63636d64 6161 64726f7773 f94e00"),
              "`rows`: expected an integer, found a float");
    EXPECT_EQ(error_of<ExecRequest>("a1 63636d64 f6"), "`cmd`: expected text, found null");
    EXPECT_EQ(error_of<ExecRequest>("a1 63636d64 4161"), "`cmd`: expected text, found bytes");
    EXPECT_EQ(error_of<ExecRequest>("a2 63636d64 6161 6461726773 82 6161 01"),
              "`args`: expected text, found an integer");
    EXPECT_EQ(error_of<ExecRequest>("a2 63636d64 6161 6461726773 9bffffffffffffffff"),
              "`args`: unexpected end of input");
    EXPECT_EQ(error_of<ExecRequest>("a2 63636d64 6161 67726c696d697473 81 a1 64736f6674 01"),
              "`rlimits`: missing field `resource`");
}

TEST(ExecPayloads, RequestRoundTrip) {
    round_trip(ExecRequest{.cmd = "c",
                           .args = {"", std::string(300, 'x')},
                           .env = {"A=1", "B=x=y"},
                           .cwd = "/w",
                           .user = "u:g",
                           .tty = true,
                           .rows = 65535,
                           .cols = 0,
                           .rlimits = {{"nofile", 0, UINT64_MAX}, {"as", 1, 2}}});
}

TEST(ExecPayloads, FailedKindsAreAClosedList) {
    using enum ExecFailedKind;
    const std::pair<ExecFailedKind, std::string_view> kinds[] = {
        {kNotFound, "not_found"},
        {kPermissionDenied, "permission_denied"},
        {kNotExecutable, "not_executable"},
        {kBadCwd, "bad_cwd"},
        {kBadArgs, "bad_args"},
        {kResourceLimit, "resource_limit"},
        {kUserSetupFailed, "user_setup_failed"},
        {kOutOfMemory, "out_of_memory"},
        {kPtySetupFailed, "pty_setup_failed"},
        {kOther, "other"}};
    for (const auto& [kind, name] : kinds) {
        EXPECT_EQ(to_string(kind), name);
        round_trip(ExecFailed{.kind = kind, .message = "m"});
    }
    EXPECT_EQ(error_of<ExecFailed>("a2 646b696e64 6161 676d657373616765 60"),
              "`kind`: unknown variant `a`");
    EXPECT_EQ(error_of<ExecFailed>("a1 676d657373616765 60"), "missing field `kind`");
    EXPECT_EQ(hex_of(ExecFailed{.kind = kOther, .message = "m"}),
              "a5646b696e64656f74686572656572726e6ff66a6572726e6f5f6e616d65f6676d657373616765616d65"
              "7374616765f6");
}

TEST(ExecPayloads, SignedValues) {
    for (const std::int32_t value : {0, 1, -1, 23, -24, 255, -256, INT32_MAX, INT32_MIN}) {
        round_trip(ExecExited{value});
        round_trip(ExecSignal{value});
        round_trip(ExecStdinError{value, std::nullopt, ""});
    }
}

// --- core -------------------------------------------------------------------------------------------------------

TEST(CorePayloads, EmptyMessagesAreMaps) {
    for (const auto hex : {"a0", "bfff", "b900 00", "a1 6178 f6", "c1a0"})
        EXPECT_EQ(error_of<Ping>(hex), "accepted");
    EXPECT_EQ(error_of<Ping>("f6"), "expected a map, found null");
    EXPECT_EQ(error_of<InitAck>("80"), "expected a map, found an array");
    EXPECT_EQ(error_of<TcpClose>(""), "unexpected end of input");
}

TEST(CorePayloads, ShutdownIsNeverDecoded) {
    for (const auto hex : {"", "f6", "a0", "ff", "1c"})
        EXPECT_EQ(error_of<Shutdown>(hex), "accepted");
}

TEST(CorePayloads, AgentVersionIsOmittedWhenEmpty) {
    EXPECT_EQ(
        hex_of(Ready{1, 2, 3, ""}),
        "a36c626f6f745f74696d655f6e73016c696e69745f74696d655f6e73026d72656164795f74696d655f6e7303");
    round_trip(Ready{UINT64_MAX, 0, 1, ""});
    EXPECT_EQ(error_of<Ready>("a2 6c626f6f745f74696d655f6e7301 6c696e69745f74696d655f6e7302"),
              "missing field `ready_time_ns`");
}

TEST(CorePayloads, ErrorKindsAndOffendingType) {
    using enum ErrorKind;
    const std::pair<ErrorKind, std::string_view> kinds[] = {
        {kMalformedMessage, "malformed_message"},
        {kUnsupportedMessageType, "unsupported_message_type"},
        {kUnsupportedProtocolGeneration, "unsupported_protocol_generation"},
        {kInvalidFlags, "invalid_flags"},
        {kInvalidPayload, "invalid_payload"},
        {kInvalidSession, "invalid_session"}};
    for (const auto& [kind, name] : kinds) {
        EXPECT_EQ(to_string(kind), name);
        round_trip(ErrorMessage{kind, "m", "t"});
    }
    EXPECT_EQ(hex_of(ErrorMessage{kInvalidSession, "m", std::nullopt}),
              "a2646b696e646f696e76616c69645f73657373696f6e676d657373616765616d");
}

TEST(CorePayloads, RequiredNumbers) {
    EXPECT_EQ(error_of<Touched>("a0"), "missing field `activity_seq`");
    EXPECT_EQ(error_of<ClockSync>("a1 6f756e69785f74696d655f6e616e6f73 20"),
              "`unix_time_nanos`: integer -1 is out of range for u64");
    EXPECT_EQ(error_of<InitResolved>("a1 6c64656661756c745f75736572 a1 63756964 00"),
              "`default_user`: missing field `gid`");
    round_trip(ClientDisconnected{1, 0xffff'ffff});
    round_trip(ClockSync{1'700'000'000'000'000'000});
}

// --- fs ---------------------------------------------------------------------------------------------------------

TEST(FsPayloads, EveryOperation) {
    const FsAttrs attrs{0644, 1, 2, 3, -4, 5};
    const FsOpenOptions options{true, false, true, false, true, false, 0600};
    const std::pair<FsOp, std::string_view> ops[] = {
        {fs::RealPath{"p"}, "RealPath"},
        {fs::Stat{"p", true}, "Stat"},
        {fs::SetStat{"p", false, attrs}, "SetStat"},
        {fs::List{"p"}, "List"},
        {fs::ReadLink{"p"}, "ReadLink"},
        {fs::Symlink{"t", "l"}, "Symlink"},
        {fs::Mkdir{"p", 0755}, "Mkdir"},
        {fs::Remove{"p"}, "Remove"},
        {fs::RemoveDir{"p", true}, "RemoveDir"},
        {fs::Copy{"s", "d"}, "Copy"},
        {fs::Rename{"s", "d"}, "Rename"},
        {fs::OpenFile{"p", options}, "OpenFile"},
        {fs::OpenDir{"p"}, "OpenDir"},
        {fs::CloseHandle{1}, "CloseHandle"},
        {fs::Read{1, 2, 3}, "Read"},
        {fs::Write{1, UINT64_MAX, std::nullopt}, "Write"},
        {fs::ReadDir{1, 0}, "ReadDir"},
        {fs::FStat{1}, "FStat"},
        {fs::FSetStat{1, {}}, "FSetStat"}};
    EXPECT_EQ(std::size(ops), std::variant_size_v<FsOp>);
    for (const auto& [op, name] : ops) {
        SCOPED_TRACE(name);
        const FsRequest decoded = round_trip(FsRequest{op});
        EXPECT_EQ(decoded.op.index(), op.index());
        const auto payload = test::payload_of(FsRequest{op});
        CborReader reader(payload);  // {"op": {name: {...}}}
        CborReader::Container map;
        std::string_view key, variant;
        ASSERT_TRUE(reader.enter_map(map) && reader.next_key(map, key) &&
                    reader.enter_variant(variant));
        EXPECT_EQ(key, "op");
        EXPECT_EQ(variant, name);
    }
    EXPECT_EQ(
        hex_of(FsRequest{fs::SetStat{"p", false, attrs}}),
        "a1626f70a16753657453746174a3647061746861706e666f6c6c6f775f73796d6c696e6bf4656174747273"
        "a6646d6f64651901a4637569640163676964026473697a6503656174696d6523656d74696d6505");
}

TEST(FsPayloads, RequestRefusals) {
    const std::string op = "a1 626f70 ";
    EXPECT_EQ(error_of<FsRequest>("a0"), "missing field `op`");
    EXPECT_EQ(error_of<FsRequest>(op + "a0"), "`op`: expected a map with exactly one entry");
    EXPECT_EQ(error_of<FsRequest>(op + "6453746174"), "`op`: expected a map, found text");
    EXPECT_EQ(error_of<FsRequest>(op + "a1 6473746174 a0"), "`op`: unknown variant `stat`");
    EXPECT_EQ(error_of<FsRequest>(op + "a1 6453746174 a1 6470617468 6161"),
              "`op`: `Stat`: missing field `follow_symlink`");
    EXPECT_EQ(error_of<FsRequest>(op + "a1 644c697374 f6"),
              "`op`: `List`: expected a map, found null");
    EXPECT_EQ(error_of<FsRequest>(op + "bf 644c697374 a1 6470617468 6161 ff"),
              "`op`: expected a map with exactly one entry");
    EXPECT_EQ(
        error_of<FsRequest>(op + "a2 644c697374 a1 6470617468 6161 644c697374 a1 6470617468 6161"),
        "`op`: expected a map with exactly one entry");
    EXPECT_EQ(error_of<FsRequest>(op + "a1 65 4653746174 a1 6668616e646c65 20"),
              "`op`: `FStat`: `handle`: integer -1 is out of range for u64");
    EXPECT_EQ(error_of<FsRequest>(op + "a1 644f70656e a0"), "`op`: unknown variant `Open`");
    // A second `op` is a duplicate also behind a variant: the reader's depth is right again.
    EXPECT_EQ(error_of<FsRequest>("a2 626f70 a1 644c697374 a1 6470617468 6161 626f70 00"),
              "duplicate field `op`");
}

TEST(FsPayloads, OpenOptionsAreAllRequiredButMode) {
    const std::string head = "a1 626f70 a1 684f70656e46696c65 a2 6470617468 6161 676f7074696f6e73 ";
    EXPECT_EQ(error_of<FsRequest>(
                  head + "a6 6472656164 f5 657772697465 f4 66617070656e64 f4 66637265617465 f4"
                         "687472756e63617465 f4 6a6372656174655f6e6577 f4"),
              "accepted");
    EXPECT_EQ(error_of<FsRequest>(head + "a1 6472656164 f5"),
              "`op`: `OpenFile`: `options`: missing field `write`");
}

TEST(FsPayloads, Responses) {
    const FsEntry entry{"/ü", FsEntryKind::kSymlink, 1, 2, std::nullopt, 3, 4, -5, 6};
    round_trip(FsResponse{true, std::nullopt, std::nullopt});
    round_trip(FsResponse{false, "e", std::nullopt});
    round_trip(FsResponse{true, std::nullopt, FsResponseData{entry}});
    round_trip(FsResponse{true, std::nullopt, FsResponseData{std::vector<FsEntry>{}}});
    round_trip(
        FsResponse{true, std::nullopt, FsResponseData{std::vector<FsEntry>{entry, entry, entry}}});
    round_trip(FsResponse{true, std::nullopt, FsResponseData{FsHandle{UINT64_MAX}}});
    round_trip(FsResponse{true, std::nullopt, FsResponseData{FsPath{"/"}}});
    for (const auto kind :
         {FsEntryKind::kFile, FsEntryKind::kDir, FsEntryKind::kSymlink, FsEntryKind::kOther}) {
        FsEntry other = entry;
        other.kind = kind;
        round_trip(FsResponse{true, std::nullopt, FsResponseData{other}});
    }
    EXPECT_EQ(hex_of(FsResponse{true, std::nullopt, FsResponseData{std::vector<FsEntry>{}}}),
              "a3626f6bf5656572726f72f66464617461a1644c69737480");
    // All nine keys of an entry, absent times as null.
    EXPECT_EQ(hex_of(FsResponse{true, std::nullopt, FsResponseData{FsEntry{}}}),
              "a3626f6bf5656572726f72f66464617461a16453746174a9"
              "647061746860"
              "646b696e64656f74686572"
              "6473697a6500"
              "646d6f646500"
              "686d6f646966696564f6"
              "6375696400"
              "6367696400"
              "656174696d65f6"
              "656d74696d65f6");
    EXPECT_EQ(error_of<FsResponse>("a1 626f6b f5"), "accepted");
    EXPECT_EQ(error_of<FsResponse>("a1 656572726f72 6161"), "missing field `ok`");
    EXPECT_EQ(error_of<FsResponse>("a2 626f6b f5 6464617461 a1 6648616e646c65 a0"),
              "`data`: `Handle`: expected an integer, found a map");
}

// --- bootstrap --------------------------------------------------------------------------------------------------

Bootstrap full_bootstrap() {
    Bootstrap b;
    b.block_root = OciErofsRoot{"/dev/vda", TmpfsUpper{64}};
    b.dir_mounts = {{"t", "/d", {true, false, true, false}}, {"u", "/e", {}}};
    b.file_mounts = {{"fm_1", "f", "/f", {false, true, false, true}}};
    b.disk_mounts = {{"id", "/k", "ext4", {}},
                     {"id2", "/l", std::nullopt, {true, true, true, true}}};
    b.tmpfs_mounts = {{"/t", 16, 01777, {}}, {"/u", std::nullopt, std::nullopt, {}}};
    b.hostname = "h";
    b.host_alias = "host.microsandbox.internal";
    b.network = GuestNetwork{"eth0",
                             {1, 2, 3, 4, 5, 255},
                             65520,
                             Ipv4Config{{10, 0, 0, 2}, 30, {10, 0, 0, 1}, std::nullopt},
                             Ipv6Config{{0xfd, 0x42, 15}, 64, {0xfd, 0x42, 1}, {{0xfd, 9}}}};
    b.rlimits = {{"nofile", 1, 2}};
    b.user = "1000:1000";
    b.default_cwd = "work";
    b.default_env = {{"A", "1"}, {"A", ""}};
    b.security_profile = SecurityProfile::kRestricted;
    b.handoff_init = HandoffInit{"/sbin/init", {"a b", "c"}, "/usr", {{"K", "V"}}};
    b.runtime_files = {{"scripts/run", 0755, Bytes::view("#!/bin/sh\n")}, {"tls/ca.pem", 0644, {}}};
    b.runtime_share = true;
    b.entropy = from_hex("00ff10");
    return b;
}

TEST(BootstrapPayload, RoundTrips) {
    round_trip(Bootstrap{});
    round_trip(full_bootstrap());
    Bootstrap b;
    b.block_root = DiskImageRoot{"/dev/vda", std::nullopt};
    EXPECT_EQ(hex_of(b),
              "a2"
              "6a626c6f636b5f726f6f74"
              "a2"
              "646b696e64"
              "6a6469736b2d696d616765"
              "66646576696365"
              "682f6465762f766461"
              "7073656375726974795f70726f66696c65"
              "6764656661756c74");
    round_trip(b);
    b.block_root = DiskImageRoot{"/dev/vda", "ext4"};
    round_trip(b);
    b.block_root = OciErofsRoot{"/dev/vda", TmpfsUpper{}};
    round_trip(b);
    b.handoff_init = HandoffInit{"auto", {}, std::nullopt, {}};
    round_trip(b);
}

TEST(BootstrapPayload, OwnKeysStandBehindUpstreamsAndOnlyWhenUsed) {
    Bootstrap b;
    b.runtime_share = true;
    b.entropy = from_hex("01");
    b.runtime_files = {{"a", 0600, Bytes::view("x")}};
    EXPECT_EQ(hex_of(b),
              "a4"
              "7073656375726974795f70726f66696c65"
              "6764656661756c74"
              "6d72756e74696d655f66696c6573"
              "81a3"
              "6470617468"
              "6161"
              "646d6f6465"
              "190180"
              "67636f6e74656e74"
              "4178"
              "6d72756e74696d655f7368617265"
              "f5"
              "67656e74726f7079"
              "4101");
}

TEST(BootstrapPayload, DefaultsAndLiberalForms) {
    EXPECT_EQ(error_of<Bootstrap>("a0"), "accepted");
    // flags missing, null optionals, addresses as byte strings, kind behind the other keys and in an indefinite map.
    const auto payload = from_hex(
        "a4 6a6469725f6d6f756e7473 81 a2 63746167 6174 6a67756573745f70617468 622f64"
        "68686f73746e616d65 f6"
        "676e6574776f726b a5 69696e74657266616365 6465746830 636d6163 46 020000000002 636d7475 "
        "1905dc 6469707636 f6"
        "  6469707634 a3 6761646472657373 44 0a000002 6a7072656669785f6c656e 181e 6767617465776179 "
        "84 0a 00 00 01"
        "6a626c6f636b5f726f6f74 bf 657570706572 a2 6873697a655f6d6962 1840 646b696e64 6574 6d706673"
        "  656c6f776572 682f6465762f766461 6178 9f 01 ff 646b696e64 c1 7f 63 6f6369 66 "
        "2d65726f6673 ff ff");
    const auto b = decode_payload<Bootstrap>(payload);
    ASSERT_TRUE(b) << b.error().message;
    EXPECT_EQ(b->dir_mounts, (std::vector<DirMount>{{"t", "/d", {}}}));
    EXPECT_EQ(b->block_root, BlockRoot(OciErofsRoot{"/dev/vda", TmpfsUpper{64}}));
    EXPECT_EQ(b->network->ipv4->address, (std::array<std::uint8_t, 4>{10, 0, 0, 2}));
    EXPECT_EQ(b->network->ipv4->gateway, (std::array<std::uint8_t, 4>{10, 0, 0, 1}));
    EXPECT_EQ(b->network->ipv6, std::nullopt);
    EXPECT_EQ(b->hostname, std::nullopt);
    EXPECT_EQ(b->security_profile, SecurityProfile::kDefault);
}

TEST(BootstrapPayload, Refusals) {
    const std::string root = "a1 6a626c6f636b5f726f6f74 ";
    EXPECT_EQ(error_of<Bootstrap>(root + "a0"), "`block_root`: missing field `kind`");
    EXPECT_EQ(error_of<Bootstrap>(root + "a1 646b696e64 6161"),
              "`block_root`: unknown variant `a`");
    EXPECT_EQ(error_of<Bootstrap>(root + "a1 646b696e64 f6"),
              "`block_root`: `kind`: expected text, found null");
    EXPECT_EQ(error_of<Bootstrap>(root + "a1 646b696e64 6a6469736b2d696d616765"),
              "`block_root`: missing field `device`");
    EXPECT_EQ(error_of<Bootstrap>(root + "a2 646b696e64 6161 646b696e64 6161"),
              "`block_root`: duplicate field `kind`");
    EXPECT_EQ(error_of<Bootstrap>("a1 7073656375726974795f70726f66696c65 66737472696374"),
              "`security_profile`: unknown variant `strict`");
    EXPECT_EQ(error_of<Bootstrap>("a1 67726c696d697473 f6"),
              "`rlimits`: expected an array, found null");
    // ipv4.address as text (guest-agent.md check 5), mac of five octets, octet 256.
    const std::string net = "a1 676e6574776f726b ";
    EXPECT_EQ(error_of<Bootstrap>(net + "a1 6469707634 a1 6761646472657373 6161"),
              "`network`: `ipv4`: `address`: expected bytes, found text");
    EXPECT_EQ(error_of<Bootstrap>(net + "a1 636d6163 85 01 02 03 04 05"),
              "`network`: `mac`: expected 6 octets, found 5");
    EXPECT_EQ(error_of<Bootstrap>(net + "a1 636d6163 86 01 02 03 04 05 190100"),
              "`network`: `mac`: integer 256 is out of range for u8");
    EXPECT_EQ(error_of<Bootstrap>(net + "a1 636d7475 1a00010000"),
              "`network`: `mtu`: integer 65536 is out of range for u16");
    EXPECT_EQ(error_of<Bootstrap>("a1 6d72756e74696d655f66696c6573 81 a1 6470617468 6161"),
              "`runtime_files`: missing field `content`");
}

TEST(BootstrapPayload, RuntimeFileContentIsAView) {
    const Bootstrap full = full_bootstrap();
    const auto payload = test::payload_of(full);
    const auto decoded = decode_payload<Bootstrap>(payload);
    ASSERT_TRUE(decoded);
    const auto content = decoded->runtime_files[0].content.span();
    EXPECT_GE(content.data(), payload.data());
    EXPECT_LE(content.data() + content.size(), payload.data() + payload.size());
}

// --- tcp and runtime --------------------------------------------------------------------------------------------

TEST(TcpPayloads, RoundTrips) {
    round_trip(TcpConnect{"host", 65535});
    round_trip(TcpFailed{"connect"});
    round_trip(TcpData{Bytes::view("x")});
    EXPECT_EQ(error_of<TcpConnect>("a2 64686f7374 60 64706f7274 1a00010000"),
              "`port`: integer 65536 is out of range for u16");
}

TEST(RuntimePayloads, RoundTrips) {
    round_trip(RuntimeHeartbeat{1, 2, 3, 4, 5, 6, 7, {8, 9, 10, 11, UINT64_MAX}});
    round_trip(RuntimeCpuTarget{4});
    round_trip(RuntimeCpuState{2});
    round_trip(RuntimeFlow{1, 33554431, true});
    EXPECT_EQ(hex_of(RuntimeCpuTarget{2}), "a1666f6e6c696e6502");
}

// --- every message ----------------------------------------------------------------------------------------------

// No message decodes from a payload of another shape without saying so, and none crashes on any single-byte damage.
TEST(EveryPayload, SurvivesEverySingleByteChange) {
    for (const auto& golden : test::golden_frames()) {
        const MessageType type = test::type_of(golden.message);
        const auto payload = test::payload_of(golden.message);
        for (std::size_t at = 0; at < payload.size(); ++at) {
            for (int value = 0; value < 256; ++value) {
                auto damaged = payload;
                damaged[at] = static_cast<std::byte>(value);
                const auto decoded = test::decode_any(type, damaged);
                if (!decoded) {
                    EXPECT_FALSE(decoded.error().message.empty());
                    continue;
                }
                const auto again = test::payload_of(*decoded);
                const auto reread = test::decode_any(type, again);
                ASSERT_TRUE(reread);
                ASSERT_EQ(*reread, *decoded);
            }
        }
    }
}

}  // namespace
}  // namespace msb::protocol
