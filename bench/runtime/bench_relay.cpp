// Relay throughput and latency with real sockets: a fake guest on one end of a socketpair, clients on the agent socket,
// the relay on a thread whose CPU time is measured. Prints one line per figure; the budget is 1 GB/s per core
// (DESIGN.md section 7).
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <thread>
#include <vector>

#include "base/time.h"
#include "protocol/codec.h"
#include "runtime/exec_log.h"
#include "runtime/relay_server.h"

namespace {

using namespace msb;
using namespace msb::runtime;

constexpr std::size_t kChunk = 64 * 1024;
constexpr std::size_t kBytes = 2ull << 30;

class Observer : public RelayObserver {
  public:
    explicit Observer(std::function<void()> ready) : ready_(std::move(ready)) {}
    void on_ready(const protocol::Ready&) override { ready_(); }
    void on_boot_failure(const std::string&) override {}
    void on_shutdown_requested() override {}
    // Our agent stops reading its pipes; the fake guest stops writing.
    void on_client_flow(std::uint32_t, std::uint32_t, bool paused) override {
        paused_ = paused;
        paused_.notify_all();
    }
    void wait_until_resumed() { paused_.wait(true); }

  private:
    std::atomic<bool> paused_ = false;
    std::function<void()> ready_;
};

template <class Message>
protocol::ByteBuffer frame(std::uint32_t id, const Message& message) {
    protocol::ByteBuffer out;
    if (!protocol::append_frame(out, id, message)) std::abort();
    return out;
}

void send_all(int fd, std::span<const std::byte> bytes) {
    if (write_all(fd, bytes) != 0) std::abort();
}

std::int64_t thread_cpu_ns(pthread_t thread) {
    clockid_t clock{};
    timespec now{};
    pthread_getcpuclockid(thread, &clock);
    clock_gettime(clock, &now);
    return now.tv_sec * 1'000'000'000ll + now.tv_nsec;
}

class Bench {
  public:
    explicit Bench(bool record) {
        char pattern[] = "/tmp/bench-relay-XXXXXX";
        directory_ = ::mkdtemp(pattern);
        auto [guest, host] = make_socketpair();
        guest_ = std::move(guest);
        channel_ = std::make_unique<GuestChannel>(loop_, std::move(host), [this] { loop_.stop(); });
        if (record) log_ = std::make_unique<ExecLog>(directory_);
        relay_ = std::make_unique<Relay>(*channel_, observer_, log_.get());
        server_ =
            std::make_unique<RelayServer>(loop_, *relay_, listen_unix(directory_ / "agent.sock"));
        channel_->attach(*relay_);
        thread_ = std::thread([this] { loop_.run(); });
        send_all(guest_.get(), frame(0, protocol::Ready{}));
        client_ = UniqueFd(::socket(AF_UNIX, SOCK_STREAM, 0));
        sockaddr_un address{};
        address.sun_family = AF_UNIX;
        (directory_ / "agent.sock").string().copy(address.sun_path, sizeof address.sun_path - 1);
        if (::connect(client_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0)
            std::abort();
        std::vector<std::byte> handshake(8 + frame(0, protocol::Ready{}).size());
        if (read_exactly(client_.get(), handshake) < 0) std::abort();
        const auto request = frame(1, protocol::ExecRequest{.cmd = "x"});
        send_all(client_.get(), request);
        std::vector<std::byte> seen(request.size());
        if (read_exactly(guest_.get(), seen) < 0) std::abort();
    }
    ~Bench() {
        guest_.reset();
        thread_.join();
        server_.reset();
        std::filesystem::remove_all(directory_);
    }

    // Stdout frames of 64 KiB from the guest to the client.
    void throughput(const char* name) {
        const std::string chunk(kChunk, 'x');
        const auto one = frame(1, protocol::ExecStdout{.data = protocol::Bytes::view(chunk)});
        const std::size_t frames = kBytes / kChunk;
        const std::int64_t cpu = thread_cpu_ns(thread_.native_handle()), start = monotonic_ns();
        std::thread producer([&] {
            for (std::size_t i = 0; i < frames; ++i) {
                observer_.wait_until_resumed();
                send_all(guest_.get(), one);
            }
        });
        std::vector<std::byte> sink(1 << 20);
        for (std::size_t left = frames * one.size(); left > 0;) {
            const ssize_t count = ::read(client_.get(), sink.data(), std::min(left, sink.size()));
            if (count <= 0) std::abort();
            left -= static_cast<std::size_t>(count);
        }
        producer.join();
        const double wall = static_cast<double>(monotonic_ns() - start);
        const double used = static_cast<double>(thread_cpu_ns(thread_.native_handle()) - cpu);
        const double bytes = static_cast<double>(frames * one.size());
        std::printf(
            "%-34s %6.2f GB/s per core of the relay, %6.2f GB/s wall, ratio to budget %.2f\n", name,
            bytes / used, bytes / wall, bytes / used);
    }

    // One small frame to the guest and one back.
    void round_trips() {
        const auto ping = frame(1, protocol::Ping{}), pong = frame(1, protocol::Pong{});
        std::vector<std::byte> buffer(256);
        std::vector<std::int64_t> times;
        for (int i = 0; i < 20'000; ++i) {
            const std::int64_t start = monotonic_ns();
            send_all(client_.get(), ping);
            if (read_exactly(guest_.get(), std::span(buffer).first(ping.size())) < 0) std::abort();
            send_all(guest_.get(), pong);
            if (read_exactly(client_.get(), std::span(buffer).first(pong.size())) < 0) std::abort();
            times.push_back(monotonic_ns() - start);
        }
        std::ranges::sort(times);
        std::printf("%-34s p50 %.1f us, p99 %.1f us\n", "round trip of a small frame",
                    static_cast<double>(times[times.size() / 2]) / 1000,
                    static_cast<double>(times[times.size() * 99 / 100]) / 1000);
    }

  private:
    std::filesystem::path directory_;
    EventLoop loop_;
    Observer observer_{[this] { loop_.post([this] { server_->start(); }); }};
    UniqueFd guest_, client_;
    std::unique_ptr<GuestChannel> channel_;
    std::unique_ptr<ExecLog> log_;
    std::unique_ptr<Relay> relay_;
    std::unique_ptr<RelayServer> server_;
    std::thread thread_;
};

}  // namespace

int main() {
    {
        Bench bench(false);
        bench.round_trips();
        bench.throughput("stdout, 64 KiB frames");
    }
    Bench bench(true);
    bench.throughput("stdout, 64 KiB frames, exec.log on");
}
