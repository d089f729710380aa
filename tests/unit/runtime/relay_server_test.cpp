// The agent and control sockets with real sockets and a scripted guest: protocol.md conformance checks 6 to 9 and 23.
#include "runtime/relay_server.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "base/error.h"
#include "relay_harness.h"
#include "runtime/control_server.h"
#include "runtime/runtime_port.h"

namespace msb::runtime::testing {
namespace {

UniqueFd connect_to(const std::filesystem::path& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.string().copy(address.sun_path, sizeof address.sun_path - 1);
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0)
        << os_error_text(errno);
    return fd;
}

std::string read_bytes(int fd, std::size_t count) {
    std::string out(count, '\0');
    const auto got = read_exactly(fd, std::as_writable_bytes(std::span(out)));
    out.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return out;
}

// The server side on a thread of its own; the test plays guest and clients.
class RelayServerTest : public ::testing::Test {
  protected:
    void SetUp() override {
        char pattern[] = "/tmp/runtime-relay-XXXXXX";
        directory_ = ::mkdtemp(pattern);
        path_ = directory_ / "agent.sock";
        auto pair = make_socketpair();
        guest_ = std::move(pair.first);
        channel_ =
            std::make_unique<GuestChannel>(loop_, std::move(pair.second), [this] { loop_.stop(); });
        relay_ = std::make_unique<Relay>(*channel_, observer_, nullptr);
        server_ = std::make_unique<RelayServer>(loop_, *relay_, listen_unix(path_));
        observer_.ready_hook = [this] { loop_.post([this] { server_->start(); }); };
        channel_->attach(*relay_);
    }
    void start() {
        thread_ = std::thread([this] { loop_.run(); });
    }
    void TearDown() override {
        guest_.reset();  // ends the loop
        if (thread_.joinable()) thread_.join();
        server_.reset();
        std::filesystem::remove_all(directory_);
    }
    void ready() {
        start();
        ASSERT_EQ(write_all(guest_.get(), std::span<const std::byte>(Harness::ready_frame())), 0);
    }
    void send(int fd, const std::vector<std::byte>& bytes) {
        ASSERT_EQ(write_all(fd, std::span<const std::byte>(bytes)), 0);
    }
    std::string handshake(int fd) { return read_bytes(fd, Harness::handshake_bytes()); }
    std::vector<std::byte> guest_reads(std::size_t count) {
        std::vector<std::byte> out(count);
        EXPECT_EQ(read_exactly(guest_.get(), out), static_cast<std::ptrdiff_t>(count));
        return out;
    }

    struct Observer : RecordingObserver {
        void on_ready(const protocol::Ready&) override { ready_hook(); }
        std::function<void()> ready_hook;
    };
    std::filesystem::path directory_, path_;
    EventLoop loop_;
    Observer observer_;
    UniqueFd guest_;
    std::unique_ptr<GuestChannel> channel_;
    std::unique_ptr<Relay> relay_;
    std::unique_ptr<RelayServer> server_;
    std::thread thread_;
};

TEST_F(RelayServerTest, EarlyConnectionGetsNothingUntilReady) {
    start();
    const UniqueFd client = connect_to(path_);
    pollfd poll_client{client.get(), POLLIN, 0};
    EXPECT_EQ(::poll(&poll_client, 1, 50), 0);
    send(guest_.get(), Harness::ready_frame());
    EXPECT_EQ(handshake(client.get()).substr(0, 8), std::string("\0\0\0\1\1\xff\xff\xff", 8));
}

// Launchers give up and reconnect while the guest boots: what they leave in the backlog must not use up the slots.
TEST_F(RelayServerTest, DeadBacklogConnectionsTakeNoSlots) {
    for (int i = 0; i < 300; ++i)
        connect_to(path_).reset();
    const UniqueFd client = connect_to(path_);
    ready();
    EXPECT_EQ(handshake(client.get()).substr(0, 8), std::string("\0\0\0\1\1\xff\xff\xff", 8));
}

TEST_F(RelayServerTest, ClientOneHundredAndTwentyNineGetsEndOfFile) {
    ready();
    std::vector<UniqueFd> clients;
    for (int i = 0; i < 128; ++i) {
        clients.push_back(connect_to(path_));
        ASSERT_EQ(handshake(clients.back().get()).size(), Harness::handshake_bytes()) << i;
    }
    const UniqueFd late = connect_to(path_);
    EXPECT_EQ(read_bytes(late.get(), 1), "");
    clients[5].reset();
    const auto cleanup = guest_reads(84);  // the disconnect notice
    const UniqueFd next = connect_to(path_);
    EXPECT_EQ(handshake(next.get()).substr(0, 4), std::string("\x09\xff\xff\xfc", 4));
}

TEST_F(RelayServerTest, ViolationClosesTheConnection) {
    ready();
    const UniqueFd bad = connect_to(path_), good = connect_to(path_);
    handshake(bad.get());
    handshake(good.get());
    send(bad.get(), raw_frame(0, 0, 1));
    EXPECT_EQ(read_bytes(bad.get(), 1), "");
    guest_reads(84);
    const auto ping = frame_of(33'554'432, protocol::Ping{});
    send(good.get(), ping);
    EXPECT_EQ(guest_reads(ping.size()), ping);
}

TEST_F(RelayServerTest, GarbageFromEverySideStallsNobody) {
    ready();
    const UniqueFd good = connect_to(path_);
    handshake(good.get());
    std::vector<std::byte> garbage(100'000);
    std::uint32_t random = 1;
    for (int round = 0; round < 20; ++round) {
        for (std::byte& b : garbage)
            b = static_cast<std::byte>((random = random * 1664525 + 1013904223) >> 24);
        const UniqueFd bad = connect_to(path_);
        handshake(bad.get());
        (void)write_all(bad.get(),
                        std::span<const std::byte>(garbage));  // may fail: the relay hangs up
    }
    // A length beyond the limit empties the relay's buffer; what follows it in the same read is lost, what comes later is
    // not. The guest sees the notices of the 20 clients in between.
    send(guest_.get(), {std::byte{0xff}, std::byte{0xff}, std::byte{0xff}, std::byte{0xff}});
    const auto ping = frame_of(1, protocol::Ping{});
    send(good.get(), ping);
    protocol::FrameReader reader;
    std::optional<protocol::FrameView> frame;
    do {
        while (!(frame = reader.next())) {
            const auto space = reader.writable(4096);
            const ssize_t count = ::read(guest_.get(), space.data(), space.size());
            ASSERT_GT(count, 0);
            reader.commit(static_cast<std::size_t>(count));
        }
    } while (frame->id != 1);
    const auto pong = frame_of(1, protocol::Pong{});
    send(guest_.get(), pong);
    EXPECT_EQ(read_bytes(good.get(), pong.size()).size(), pong.size());
}

// "10 MB/s of output to a client that does not read": others keep their latency, nothing is lost when it reads again.
TEST_F(RelayServerTest, SlowReaderLosesNothingAndStallsNobody) {
    ready();
    const UniqueFd slow = connect_to(path_), fast = connect_to(path_);
    handshake(slow.get());
    handshake(fast.get());
    const std::string chunk(64 * 1024, 's');
    const auto big = frame_of(1, protocol::ExecStdout{.data = protocol::Bytes::view(chunk)});
    const auto small = frame_of(33'554'432, protocol::Pong{});
    constexpr int kRounds = 300;  // about 20 MB
    for (int i = 0; i < kRounds; ++i) {
        send(guest_.get(), big);
        send(guest_.get(), small);
        ASSERT_EQ(read_bytes(fast.get(), small.size()).size(), small.size()) << i;
    }
    const std::string expected(reinterpret_cast<const char*>(big.data()), big.size());
    for (int i = 0; i < kRounds; ++i)
        ASSERT_EQ(read_bytes(slow.get(), big.size()), expected) << i;
}

TEST_F(RelayServerTest, ClientThatNeverReadsIsCutOffInTheEnd) {
    ready();
    const UniqueFd slow = connect_to(path_), fast = connect_to(path_);
    handshake(slow.get());
    handshake(fast.get());
    const std::string chunk(1 << 20, 's');
    const auto big = frame_of(1, protocol::ExecStdout{.data = protocol::Bytes::view(chunk)});
    for (int i = 0; i < 70; ++i)
        send(guest_.get(), big);
    const auto notice = guest_reads(84);
    protocol::FrameReader reader;
    reader.append(notice);
    EXPECT_EQ(protocol::decode_envelope(reader.next()->body)->type_name,
              "core.relay.client.disconnected");
    const auto pong = frame_of(33'554'432, protocol::Pong{});
    send(guest_.get(), pong);
    EXPECT_EQ(read_bytes(fast.get(), pong.size()).size(), pong.size());
}

TEST(ListenUnix, LongPathsAndStaleFiles) {
    EXPECT_THROW((void)listen_unix("/tmp/" + std::string(120, 'x')), Error);
    char pattern[] = "/tmp/runtime-listen-XXXXXX";
    const std::filesystem::path directory = ::mkdtemp(pattern);
    const UniqueFd first = listen_unix(directory / "a" / "s.sock");
    const UniqueFd second = listen_unix(directory / "a" / "s.sock");
    EXPECT_TRUE(second);
    std::filesystem::remove_all(directory);
}

// --- control ----------------------------------------------------------------------------------------------------

class SmallTarget : public ControlTarget {
  public:
    bool memory_resizable() const override { return true; }
    bool cpu_resizable() const override { return true; }
    ControlMemory memory() override { return {}; }
    ControlCpu cpu() override { return {}; }
    void set_memory(std::uint64_t) override {}
    void set_cpus(unsigned) override {}
};

TEST(ControlServer, AnswersGarbageAndIsNotBlockedByIdleConnections) {
    char pattern[] = "/tmp/runtime-control-XXXXXX";
    const std::filesystem::path directory = ::mkdtemp(pattern), path = directory / "control.sock";
    EventLoop loop;
    SmallTarget target;
    auto server = std::make_unique<ControlServer>(loop, listen_unix(path), target);
    std::thread thread([&] { loop.run(); });
    const auto ask = [&](std::string_view bytes, bool end) {
        const UniqueFd client = connect_to(path);
        EXPECT_EQ(write_all(client.get(), bytes), 0);
        if (end) ::shutdown(client.get(), SHUT_WR);
        return read_to_end(client.get());
    };
    const UniqueFd idle = connect_to(path);
    EXPECT_TRUE(ask("{\"op\":\"capabilities\"}\n", false).starts_with("{\"ok\":true"));
    EXPECT_TRUE(ask("{\"op\":\"capabilities\"}", true).starts_with("{\"ok\":true"));
    EXPECT_TRUE(ask("\n", false).starts_with("{\"ok\":false"));
    EXPECT_TRUE(ask("", true).starts_with("{\"ok\":false"));
    EXPECT_EQ(ask("\xff\xfe\n", false), "");
    EXPECT_TRUE(ask("{\"op\":\"capabilities\"}\nmore", true).starts_with("{\"ok\":true"));
    {
        const UniqueFd flood = connect_to(path);
        const std::string chunk(64 * 1024, 'x');
        int error = 0;
        for (int i = 0; i < 64 && error == 0; ++i) {
            const ssize_t sent = ::send(flood.get(), chunk.data(), chunk.size(), MSG_NOSIGNAL);
            error = sent < 0 ? errno : 0;
        }
        EXPECT_NE(error, 0) << "a request without end must be cut off";
    }
    loop.stop();
    thread.join();
    server.reset();
    std::filesystem::remove_all(directory);
}

// --- runtime port -----------------------------------------------------------------------------------------------

TEST(RuntimePort, TakesHeartbeatsBetweenGarbage) {
    EventLoop loop;
    auto [guest, host] = make_socketpair();
    std::vector<std::uint64_t> beats;
    RuntimePort port(loop, std::move(host),
                     {.heartbeat =
                          [&](const protocol::RuntimeHeartbeat& beat) {
                              beats.push_back(beat.heartbeat_seq);
                              if (beats.size() == 2) loop.stop();
                          },
                      .cpu_state = [](const protocol::RuntimeCpuState&) {}});
    std::vector<std::byte> bytes = frame_of(0, protocol::RuntimeHeartbeat{.heartbeat_seq = 1});
    const auto add = [&](const std::vector<std::byte>& more) {
        bytes.insert(bytes.end(), more.begin(), more.end());
    };
    add(raw_frame(0, 0, 7));  // an envelope that is none
    add({std::byte{0}, std::byte{0}, std::byte{0}, std::byte{2}, std::byte{1},
         std::byte{1}});                 // too short
    add(frame_of(0, protocol::Ping{}));  // not for this port
    add(frame_of(0, protocol::RuntimeHeartbeat{.heartbeat_seq = 2}));
    ASSERT_EQ(write_all(guest.get(), std::span<const std::byte>(bytes)), 0);
    loop.run();
    EXPECT_EQ(beats, (std::vector<std::uint64_t>{1, 2}));
    port.send_cpu_target(2);
    const auto expected = frame_of(0, protocol::RuntimeCpuTarget{.online = 2});
    std::vector<std::byte> got(expected.size());
    EXPECT_EQ(read_exactly(guest.get(), got), static_cast<std::ptrdiff_t>(got.size()));
    EXPECT_EQ(got, expected);
}

}  // namespace
}  // namespace msb::runtime::testing
