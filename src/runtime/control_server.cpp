#include "runtime/control_server.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <string>

#include "base/error.h"
#include "base/log.h"

namespace msb::runtime {
namespace {

constexpr std::chrono::milliseconds kAcceptRetry{100};

bool would_block(int error) {
    return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

}  // namespace

class ControlServer::Connection : public std::enable_shared_from_this<Connection> {
  public:
    Connection(ControlServer& server, UniqueFd socket)
        : server_(server),
          socket_(std::move(socket)),
          watch_(
              server.loop_, socket_.get(), [this] { readable(); }, [this] { writable(); }),
          timeout_(server.loop_, [this] { finish(); }) {
        timeout_.start_after(kControlTimeout);
        watch_.want_read(true);
    }

  private:
    void readable() {
        const auto keep = shared_from_this();
        std::array<char, 4096> chunk;
        const ssize_t count = ::recv(socket_.get(), chunk.data(), chunk.size(), MSG_DONTWAIT);
        if (count < 0 && would_block(errno)) return;
        if (count < 0) return finish();
        const std::size_t scanned = request_.size();
        request_.append(chunk.data(), static_cast<std::size_t>(count));
        const std::size_t newline = request_.find('\n', scanned);
        if (newline == std::string::npos && count > 0) {
            if (request_.size() > kMaxControlLine) finish();
            return;
        }
        watch_.want_read(false);
        const auto response =
            handle_control_line(std::string_view(request_).substr(0, newline), server_.target_);
        explicit_bzero(request_.data(), request_.size());  // may have held a secret
        if (!response) return finish();
        response_ = *response;
        writable();
    }

    void writable() {
        const auto keep = shared_from_this();
        watch_.want_write(false);
        while (sent_ < response_.size()) {
            const ssize_t sent = ::send(socket_.get(), response_.data() + sent_,
                                        response_.size() - sent_, MSG_DONTWAIT | MSG_NOSIGNAL);
            if (sent < 0) {
                if (!would_block(errno)) return finish();
                return watch_.want_write(true);
            }
            sent_ += static_cast<std::size_t>(sent);
        }
        finish();
    }

    void finish() { server_.finished(this); }

    ControlServer& server_;
    UniqueFd socket_;
    FdWatch watch_;
    Timer timeout_;
    std::string request_;
    std::string response_;
    std::size_t sent_ = 0;
};

ControlServer::ControlServer(EventLoop& loop, UniqueFd listener, ControlTarget& target)
    : loop_(loop),
      listener_(std::move(listener)),
      target_(target),
      watch_(loop, listener_.get(), [this] { accept_some(); }),
      retry_(loop, [this] { watch_.want_read(true); }) {
    watch_.want_read(true);
}

ControlServer::~ControlServer() = default;

void ControlServer::accept_some() {
    while (connections_.size() < kMaxControlConnections) {
        UniqueFd client(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
        if (client) {
            auto connection = std::make_shared<Connection>(*this, std::move(client));
            connections_.emplace(connection.get(), connection);
            continue;
        }
        if (errno == EINTR || errno == ECONNABORTED) continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK) {
            log(LogLevel::kWarn, "msb::control", "accept on the control socket: {}",
                os_error_text(errno));
            watch_.want_read(false);
            retry_.start_after(kAcceptRetry);
        }
        return;
    }
    watch_.want_read(false);
}

void ControlServer::finished(Connection* connection) {
    const auto found = connections_.find(connection);
    if (found == connections_.end()) return;
    // Freed once its callback has returned.
    loop_.post([keep = found->second] {});
    connections_.erase(found);
    watch_.want_read(true);
}

}  // namespace msb::runtime
