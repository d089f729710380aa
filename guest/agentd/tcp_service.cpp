#include "agentd/tcp_service.h"

#include <netinet/tcp.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/error.h"

namespace msb::agentd {

namespace {

constexpr std::int64_t kConnectTimeout = 30'000'000'000;
constexpr std::size_t kReadSize = 64 * 1024;
constexpr int kReadsPerTurn = 4;

}  // namespace

// --- session --------------------------------------------------------------------------------------

TcpSession::TcpSession(const Context& context, std::uint32_t id, const protocol::TcpConnect& target,
                       std::function<void()> ended)
    : context_(context),
      id_(id),
      label_(target.host + ":" + std::to_string(target.port)),
      ended_(std::move(ended)),
      deadline_(context.loop.after(kConnectTimeout,
                                   [this] { fail("connect " + label_ + " timed out"); })),
      queue_(context.budget) {}

TcpSession::~TcpSession() {
    context_.loop.cancel(deadline_);
}

void TcpSession::fail(const std::string& text) {
    context_.output.send(id_, protocol::TcpFailed{.error = text});
    auto ended = std::move(ended_);
    ended();
}

void TcpSession::resolved(std::expected<std::vector<SocketAddress>, std::string> addresses) {
    if (!addresses) return fail("connect " + label_ + ": " + addresses.error());
    addresses_ = std::move(*addresses);
    try_next_address();
}

void TcpSession::try_next_address() {
    while (next_address_ < addresses_.size()) {
        const SocketAddress& address = addresses_[next_address_++];
        watch_.reset();
        socket_.reset(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        if (!socket_) {
            last_error_ = errno;
            continue;
        }
        int result = ::connect(socket_.get(), reinterpret_cast<const sockaddr*>(&address.storage),
                               address.size);
        if (result == 0) return connected();
        last_error_ = errno;
        if (last_error_ != EINPROGRESS) continue;
        watch_ = std::make_unique<Watch>(context_.loop, socket_.get(),
                                         [this](std::uint32_t) { on_connect_event(); });
        watch_->want(EPOLLOUT);
        return;
    }
    fail("connect " + label_ + ": " + os_error_text(last_error_));
}

void TcpSession::on_connect_event() {
    int err = 0;
    socklen_t size = sizeof err;
    if (::getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &err, &size) != 0) err = errno;
    if (err == 0) return connected();
    last_error_ = err;
    try_next_address();
}

void TcpSession::connected() {
    context_.loop.cancel(deadline_);
    connected_ = true;
    // The host's frames are whole messages already: waiting to fill a segment only delays them.
    int on = 1;
    ::setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    context_.output.send(id_, protocol::TcpConnected{});
    watch_ = std::make_unique<Watch>(context_.loop, socket_.get(),
                                     [this](std::uint32_t events) { on_stream_event(events); });
    if (flush()) update_interest();
}

void TcpSession::on_stream_event(std::uint32_t events) {
    if ((events & EPOLLOUT) != 0) blocked_ = false;
    if (!flush()) return;
    if ((events & ~static_cast<std::uint32_t>(EPOLLOUT)) != 0 && !read_ended_)
        read_stream();
    else
        update_interest();
}

void TcpSession::read_stream() {
    static thread_local std::vector<std::byte> buffer(kReadSize);
    for (int turn = 0; turn < kReadsPerTurn; ++turn) {
        paused_ = context_.output.must_pause(id_);
        if (paused_) break;
        ssize_t n = ::read(socket_.get(), buffer.data(), buffer.size());
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) break;
        if (n < 0) return fail("read TCP stream: " + os_error_text(errno));
        if (n == 0) {
            read_ended_ = true;
            context_.output.send(id_, protocol::TcpEof{});
            break;
        }
        auto size = static_cast<std::size_t>(n);
        context_.activity.tcp_bytes += size;
        context_.output.send_data(id_, protocol::MessageType::kTcpData,
                                  std::span(buffer).first(size));
    }
    update_interest();
}

void TcpSession::send(std::span<const std::byte> data) {
    if (eof_wanted_ || data.empty()) return;
    context_.activity.tcp_bytes += data.size();
    queue_.push(data);
    if (connected_ && flush()) update_interest();
}

void TcpSession::send_eof() {
    eof_wanted_ = true;
    if (connected_ && flush()) update_interest();
}

// False when the session ended.
bool TcpSession::flush() {
    if (blocked_ || write_ended_) return true;
    int error = 0;
    switch (queue_.write_to(socket_.get(), error)) {
        case WriteQueue::Result::kFailed:
            fail("write TCP stream: " + os_error_text(error));
            return false;
        case WriteQueue::Result::kBlocked:
            blocked_ = true;
            return true;
        case WriteQueue::Result::kDrained:
            break;
    }
    if (!eof_wanted_) return true;
    write_ended_ = true;
    if (::shutdown(socket_.get(), SHUT_WR) != 0) {
        fail("shutdown TCP stream: " + os_error_text(errno));
        return false;
    }
    return true;
}

void TcpSession::update_interest() {
    std::uint32_t events = paused_ || read_ended_ ? 0u : EPOLLIN;
    if (blocked_ && !paused_) events |= EPOLLOUT;
    watch_->want(events);
}

void TcpSession::resume() {
    if (!paused_) return;
    paused_ = false;
    update_interest();
}

// --- service --------------------------------------------------------------------------------------

void TcpService::connect(std::uint32_t id, const protocol::TcpConnect& target) {
    if (sessions_.erase(id) > 0) context_.output.send(id, protocol::TcpClosed{});
    std::uint64_t key = next_key_++;
    auto session =
        std::make_unique<TcpSession>(context_, id, target, [this, id, key] { remove(id, key); });
    TcpSession& started = *session;
    sessions_.emplace(id, Entry{key, std::move(session)});
    update_count();
    auto addresses = numeric_address(target.host, target.port);
    if (!addresses.empty()) return started.resolved(std::move(addresses));
    pool_.submit([this, id, key, target] {
        auto result = resolve(target.host, target.port);
        context_.loop.post([this, id, key, result = std::move(result)]() mutable {
            auto entry = sessions_.find(id);
            if (entry != sessions_.end() && entry->second.key == key)
                entry->second.session->resolved(std::move(result));
        });
    });
}

void TcpService::remove(std::uint32_t id, std::uint64_t key) {
    auto entry = sessions_.find(id);
    if (entry == sessions_.end() || entry->second.key != key) return;
    auto ended = sessions_.extract(entry);
    update_count();
}

void TcpService::update_count() {
    context_.activity.tcp_streams = static_cast<std::uint32_t>(sessions_.size());
}

void TcpService::data(std::uint32_t id, std::span<const std::byte> bytes) {
    auto entry = sessions_.find(id);
    if (entry == sessions_.end()) {
        context_.output.send(
            id, protocol::TcpFailed{.error = "unknown TCP session: " + std::to_string(id)});
        return;
    }
    entry->second.session->send(bytes);
}

void TcpService::eof(std::uint32_t id) {
    if (auto entry = sessions_.find(id); entry != sessions_.end())
        entry->second.session->send_eof();
}

void TcpService::close(std::uint32_t id) {
    sessions_.erase(id);
    update_count();
}

void TcpService::disconnect(std::uint32_t start, std::uint32_t end) {
    std::erase_if(sessions_,
                  [&](const auto& entry) { return entry.first >= start && entry.first < end; });
    update_count();
}

void TcpService::resume_output() {
    for (auto& [id, entry] : sessions_)
        entry.session->resume();
}

}  // namespace msb::agentd
