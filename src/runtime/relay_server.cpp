#include "runtime/relay_server.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>

#include "base/error.h"
#include "base/log.h"

namespace msb::runtime {
namespace {

constexpr std::string_view kLog = "msb::relay";
// Launchers reconnect until the guest is ready: their dead connections queue up here, not in slots.
constexpr int kListenBacklog = 4096;
// Reads of one stream before others get their turn.
constexpr int kReadsPerTurn = 4;
// After the process ran out of descriptors.
constexpr std::chrono::milliseconds kAcceptRetry{100};
constexpr int kSocketBuffer = 1 << 20;

// What sendmsg(2) took; nullopt when the peer is gone.
std::optional<std::size_t> send_some(int fd, std::span<const std::byte> bytes) {
    for (;;) {
        const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent >= 0) return static_cast<std::size_t>(sent);
        if (errno == EINTR) continue;
        if (errno == EAGAIN || errno == EWOULDBLOCK) return 0;
        return std::nullopt;
    }
}

// Bytes read; 0 at the end of the stream or when it is broken; -1 when there is nothing now.
ssize_t receive_some(int fd, std::span<std::byte> out) {
    for (;;) {
        const ssize_t count = ::recv(fd, out.data(), out.size(), MSG_DONTWAIT);
        if (count >= 0) return count;
        if (errno == EINTR) continue;
        return errno == EAGAIN || errno == EWOULDBLOCK ? -1 : 0;
    }
}

// Asks for room for many frames; the kernel gives what net.core.wmem_max allows.
void widen(int fd) {
    const int size = kSocketBuffer;
    (void)::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

}  // namespace

UniqueFd listen_unix(const std::filesystem::path& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string text = path.string();
    if (text.size() >= sizeof address.sun_path)
        throw Error(ErrorCode::kIo, "path must be shorter than SUN_LEN");
    text.copy(address.sun_path, text.size());
    std::error_code error;
    if (!path.parent_path().empty()) std::filesystem::create_directories(path.parent_path(), error);
    if (error) throw_os_error(error.value());
    if (::unlink(text.c_str()) != 0 && errno != ENOENT) throw_os_error(errno);
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) throw_os_error(errno);
    if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
        throw_os_error(errno);
    if (::listen(fd.get(), kListenBacklog) != 0) throw_os_error(errno);
    return fd;
}

// --- clients ----------------------------------------------------------------------------------------------------

class RelayServer::Session : public RelayPort, public std::enable_shared_from_this<Session> {
  public:
    Session(RelayServer& server, UniqueFd socket)
        : server_(server),
          socket_(std::move(socket)),
          watch_(server.loop_, socket_.get(), [this] { readable(); }, [this] { writable(); }) {}

    // False when the relay has no slot; the session is then useless.
    bool start() {
        const auto slot = server_.relay_.add_client(*this);
        if (!slot) return false;
        slot_ = *slot;
        watch_.want_read(true);
        return true;
    }

    std::optional<std::size_t> write_some(std::span<const std::byte> bytes) override {
        const auto sent = send_some(socket_.get(), bytes);
        if (sent && *sent < bytes.size()) watch_.want_write(true);
        return sent;
    }
    void set_reading(bool on) override {
        reading_ = on;
        watch_.want_read(on);
    }
    void closed() override {
        gone_ = true;
        server_.sessions_.erase(this);  // the last reference unless a callback below holds one
    }

  private:
    void readable() {
        const auto keep = shared_from_this();
        for (int turn = 0; turn < kReadsPerTurn && reading_ && !gone_; ++turn) {
            const auto buffer = server_.relay_.client_buffer(slot_);
            const ssize_t count = receive_some(socket_.get(), buffer);
            if (count < 0) return;
            if (count == 0) return server_.relay_.remove_client(slot_);
            server_.relay_.client_received(slot_, static_cast<std::size_t>(count));
            if (static_cast<std::size_t>(count) < buffer.size()) return;
        }
    }
    void writable() {
        const auto keep = shared_from_this();
        watch_.want_write(false);
        server_.relay_.client_writable(slot_);
    }

    RelayServer& server_;
    UniqueFd socket_;
    FdWatch watch_;
    unsigned slot_ = 0;
    bool reading_ = true;
    bool gone_ = false;
};

RelayServer::RelayServer(EventLoop& loop, Relay& relay, UniqueFd listener)
    : loop_(loop), relay_(relay), listener_(std::move(listener)), retry_(loop, [this] {
          if (watch_) watch_->want_read(true);
      }) {}

RelayServer::~RelayServer() = default;

void RelayServer::start() {
    watch_ = std::make_unique<FdWatch>(loop_, listener_.get(), [this] { accept_some(); });
    watch_->want_read(true);
}

void RelayServer::stop_accepting() {
    retry_.cancel();
    watch_.reset();
    listener_.reset();
}

void RelayServer::accept_some() {
    for (;;) {
        UniqueFd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (client) {
            admit(std::move(client));
            continue;
        }
        if (errno == EINTR || errno == ECONNABORTED) continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK) {
            log(LogLevel::kWarn, kLog, "accept on the agent socket: {}", os_error_text(errno));
            watch_->want_read(false);
            retry_.start_after(kAcceptRetry);
        }
        return;
    }
}

void RelayServer::admit(UniqueFd client) {
    // A client that gave up while it queued must not take a slot from a living one.
    std::byte first{};
    if (::recv(client.get(), &first, 1, MSG_PEEK | MSG_DONTWAIT) == 0) return;
    widen(client.get());
    auto session = std::make_shared<Session>(*this, std::move(client));
    sessions_.emplace(session.get(), session);
    if (!session->start()) {
        log(LogLevel::kWarn, kLog, "a client was turned away: all {} slots are taken",
            protocol::kMaxClients);
        sessions_.erase(session.get());
    }
}

// --- guest ------------------------------------------------------------------------------------------------------

GuestChannel::GuestChannel(EventLoop& loop, UniqueFd socket, std::function<void()> on_closed)
    : socket_(std::move(socket)), on_closed_(std::move(on_closed)) {
    set_nonblocking(socket_.get(), true);
    widen(socket_.get());
    watch_ = std::make_unique<FdWatch>(
        loop, socket_.get(), [this] { readable(); },
        [this] {
            watch_->want_write(false);
            relay_->guest_writable();
        });
}

GuestChannel::~GuestChannel() = default;

void GuestChannel::attach(Relay& relay) {
    relay_ = &relay;
    watch_->want_read(true);
}

std::optional<std::size_t> GuestChannel::write_some(std::span<const std::byte> bytes) {
    const auto sent = send_some(socket_.get(), bytes);
    if (sent && *sent < bytes.size()) watch_->want_write(true);
    return sent;
}

void GuestChannel::set_reading(bool on) {
    watch_->want_read(on);
}

void GuestChannel::readable() {
    for (int turn = 0; turn < kReadsPerTurn; ++turn) {
        const auto buffer = relay_->guest_buffer();
        const ssize_t count = receive_some(socket_.get(), buffer);
        if (count < 0) return;
        if (count == 0) {
            watch_->want_read(false);
            watch_->want_write(false);
            on_closed_();
            return;
        }
        relay_->guest_received(static_cast<std::size_t>(count));
        if (static_cast<std::size_t>(count) < buffer.size()) return;
    }
}

}  // namespace msb::runtime
