#include "agentd/runtime_channel.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>

#include "agentd/failure.h"
#include "agentd/files.h"
#include "base/error.h"
#include "base/time.h"

namespace msb::agentd {

namespace {

constexpr std::int64_t kInterval = 1'000'000'000;
constexpr std::size_t kReadSize = 4096;
// A host that reads nothing loses beats; it never costs more than this.
constexpr std::size_t kMaxPending = 64 * 1024;

}  // namespace

std::string heartbeat_json(const protocol::RuntimeHeartbeat& beat) {
    std::string json = "{";
    auto number = [&](const char* key, std::uint64_t value) {
        json += json.back() == '{' ? "\"" : ",\"";
        json += key;
        json += "\":" + std::to_string(value);
    };
    auto text = [&](const char* key, const std::string& value) {
        json += std::string(",\"") + key + "\":\"" + value + "\"";
    };
    number("heartbeat_seq", beat.heartbeat_seq);
    number("activity_seq", beat.activity_seq);
    text("timestamp", rfc3339_nanos(static_cast<std::int64_t>(beat.timestamp_ns)));
    text("last_activity", rfc3339_nanos(static_cast<std::int64_t>(beat.last_activity_ns)));
    number("active_exec_sessions", beat.active_exec_sessions);
    number("active_fs_streams", beat.active_fs_streams);
    number("active_tcp_streams", beat.active_tcp_streams);
    json += ",\"activity_counters\":{";
    number("host_messages", beat.activity_counters.host_messages);
    number("guest_messages", beat.activity_counters.guest_messages);
    number("exec_output_bytes", beat.activity_counters.exec_output_bytes);
    number("fs_bytes", beat.activity_counters.fs_bytes);
    number("tcp_bytes", beat.activity_counters.tcp_bytes);
    return json + "}}";
}

RuntimeChannel::RuntimeChannel(const Activity& activity, UniqueFd port, std::string directory,
                               Cpus cpus, std::function<void(const protocol::RuntimeFlow&)> flow)
    : activity_(activity),
      port_(std::move(port)),
      directory_(std::move(directory)),
      cpus_(std::move(cpus)),
      flow_(std::move(flow)),
      stop_(::eventfd(0, EFD_CLOEXEC)) {
    if (!stop_) throw_os_error(errno, "create the heartbeat's stop descriptor");
    thread_ = std::thread([this] { run(); });
}

RuntimeChannel::~RuntimeChannel() {
    stopping_ = true;
    std::uint64_t one = 1;
    [[maybe_unused]] ssize_t n = ::write(stop_.get(), &one, sizeof one);
    thread_.join();
}

void RuntimeChannel::run() {
    std::int64_t next = monotonic_ns() + kInterval;
    while (!stopping_) {
        wait_until(next);
        if (monotonic_ns() < next) continue;
        beat();
        // A guest that was stopped for a while does not owe the beats it missed.
        next = std::max(next + kInterval, monotonic_ns());
    }
}

void RuntimeChannel::wait_until(std::int64_t deadline_ns) {
    std::int64_t left = std::max<std::int64_t>(0, deadline_ns - monotonic_ns());
    short port_events = pending_.empty() ? POLLIN : POLLIN | POLLOUT;
    std::array<pollfd, 2> fds = {pollfd{stop_.get(), POLLIN, 0},
                                 pollfd{port_.get(), port_events, 0}};
    int timeout = static_cast<int>(left / 1'000'000) + 1;
    if (::poll(fds.data(), fds.size(), timeout) <= 0) return;
    if ((fds[1].revents & POLLOUT) != 0) flush();
    if ((fds[1].revents & POLLIN) != 0) read_port();
    // The host end is gone for good: the engine goes with it. Until then this must not spin.
    if ((fds[1].revents & POLLHUP) != 0 && (fds[1].revents & POLLIN) == 0) port_.reset();
}

void RuntimeChannel::beat() {
    ++sequence_;
    if (!port_) return write_file();
    if (pending_.size() < kMaxPending &&
        protocol::append_frame(pending_, 0, activity_.snapshot(sequence_)))
        flush();
}

void RuntimeChannel::write_file() const {
    if (directory_.empty() || !is_directory(directory_)) return;
    std::string temporary = directory_ + "/heartbeat.tmp";
    std::string path = directory_ + "/heartbeat.json";
    if (msb::agentd::write_file(temporary, heartbeat_json(activity_.snapshot(sequence_)), 0644) ==
        0)
        ::rename(temporary.c_str(), path.c_str());
}

void RuntimeChannel::flush() {
    while (!pending_.empty()) {
        ssize_t n = ::write(port_.get(), pending_.data(), pending_.size());
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return;
        pending_.erase(pending_.begin(), pending_.begin() + n);
    }
}

void RuntimeChannel::read_port() {
    ssize_t n = ::read(port_.get(), reader_.writable(kReadSize).data(), kReadSize);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (n <= 0) return port_.reset();
    reader_.commit(static_cast<std::size_t>(n));
    while (auto frame = reader_.next())
        handle(*frame);
    if (reader_.error()) {
        log_line("runtime port: " + *reader_.error());
        port_.reset();
    }
}

void RuntimeChannel::handle(const protocol::FrameView& frame) {
    auto envelope = protocol::decode_envelope(frame.body);
    if (!envelope) return;
    if (envelope->type == protocol::MessageType::kRuntimeFlow) {
        auto flow = protocol::decode_payload<protocol::RuntimeFlow>(envelope->payload.span());
        if (flow && flow_) flow_(*flow);
        return;
    }
    if (envelope->type != protocol::MessageType::kRuntimeCpuTarget) return;
    auto target = protocol::decode_payload<protocol::RuntimeCpuTarget>(envelope->payload.span());
    if (!target) return log_line("runtime port: " + target.error().message);
    protocol::RuntimeCpuState state{.online = cpus_.set_online(target->online)};
    if (protocol::append_frame(pending_, 0, state)) flush();
}

}  // namespace msb::agentd
