#include "sdk/agent_client.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/log.h"

namespace msb::sdk {

using protocol::MessageType;

namespace {

constexpr std::size_t kReadBytes = 128u << 10;

[[noreturn]] void fail(const std::string& text) {
    throw Error(ErrorCode::kAgentClient, text);
}

// Reads and parses until the handshake is complete; bytes after it stay in `received`.
Handshake read_handshake(int fd, std::vector<std::byte>& received, const Deadline& deadline,
                         const Cancel& cancel) {
    std::array<std::byte, 16384> chunk;
    for (;;) {
        if (wait_for(fd, POLLIN, deadline, cancel) == Ready::kTimeout)
            fail("handshake: " + handshake_interrupted(received.size(), true));
        ssize_t n = ::recv(fd, chunk.data(), chunk.size(), MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR)) continue;
        if (n == 0 || (n < 0 && errno == ECONNRESET))
            fail("handshake: " + handshake_interrupted(received.size(), false));
        if (n < 0) fail("handshake: read id range: " + os_error_text(errno));
        received.insert(received.end(), chunk.begin(), chunk.begin() + n);
        auto parsed = parse_handshake(received);
        if (!parsed) fail("handshake: " + parsed.error());
        if (*parsed) return std::move(**parsed);
    }
}

UniqueFd connect_socket(const std::filesystem::path& path, const Deadline& deadline,
                        const Cancel& cancel) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string text = path.string();
    if (text.size() >= sizeof address.sun_path)
        fail("connect " + text + ": path must be shorter than SUN_LEN");
    std::memcpy(address.sun_path, text.data(), text.size());
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (!fd) fail("connect " + text + ": " + os_error_text(errno));
    // A full backlog is EAGAIN on Unix sockets; there is nothing to poll on, so try again shortly.
    while (::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
        if (errno == EINTR) continue;
        if (errno != EAGAIN) fail("connect " + text + ": " + os_error_text(errno));
        if (deadline && Clock::now() >= *deadline)
            fail("connect " + text + ": " + os_error_text(ETIMEDOUT));
        sleep_for(std::chrono::milliseconds(2), cancel);
    }
    return fd;
}

}  // namespace

// --- connection -------------------------------------------------------------------------------------------------

AgentClient::AgentClient(UniqueFd socket, Handshake handshake, protocol::ByteView rest)
    : socket_(std::move(socket)), handshake_(std::move(handshake)), next_id_(handshake_.first_id) {
    reader_.append(rest);
}

AgentClient::~AgentClient() = default;

std::shared_ptr<AgentClient> AgentClient::connect(const std::filesystem::path& socket,
                                                  const Deadline& deadline, const Cancel& cancel) {
    return adopt(connect_socket(socket, deadline, cancel), deadline, cancel);
}

std::shared_ptr<AgentClient> AgentClient::adopt(UniqueFd socket, const Deadline& deadline,
                                                const Cancel& cancel) {
    set_nonblocking(socket.get(), true);
    std::vector<std::byte> received;
    Handshake handshake = read_handshake(socket.get(), received, deadline, cancel);
    const std::size_t consumed = handshake.consumed;
    return std::shared_ptr<AgentClient>(new AgentClient(
        std::move(socket), std::move(handshake), protocol::ByteView(received).subspan(consumed)));
}

bool AgentClient::usable() {
    {
        std::scoped_lock lock(write_mutex_);
        if (write_failed_) return false;
    }
    std::scoped_lock lock(mutex_);
    if (ended_) return false;
    pollfd state{socket_.get(), POLLIN | POLLRDHUP, 0};
    return ::poll(&state, 1, 0) >= 0 && (state.revents & (POLLHUP | POLLRDHUP | POLLERR)) == 0;
}

void AgentClient::close() noexcept {
    {
        std::scoped_lock lock(mutex_);
        ended_ = true;
    }
    ::shutdown(socket_.get(), SHUT_RDWR);  // wakes the reading thread and any writer
    changed_.notify_all();
}

void AgentClient::require(MessageType type) const {
    if (protocol::is_supported(type, handshake_.generation)) return;
    throw Error(ErrorCode::kUnsupportedOperation,
                protocol::too_old_message(type, handshake_.generation));
}

// --- writing ----------------------------------------------------------------------------------------------------

void AgentClient::write(std::span<const std::byte> head, std::span<const std::byte> data,
                        const Cancel& cancel) {
    std::scoped_lock lock(write_mutex_);
    if (write_failed_) fail("client closed");
    std::array<iovec, 2> parts{iovec{const_cast<std::byte*>(head.data()), head.size()},
                               iovec{const_cast<std::byte*>(data.data()), data.size()}};
    std::size_t part = 0;
    bool started = false;
    while (part < parts.size()) {
        if (parts[part].iov_len == 0) {
            ++part;
            continue;
        }
        msghdr message{};
        message.msg_iov = &parts[part];
        message.msg_iovlen = parts.size() - part;
        ssize_t n = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) {
            try {
                wait_for(socket_.get(), POLLOUT, std::nullopt, cancel);
            } catch (const Error&) {
                if (started) {  // half a frame is out: the peer could not make sense of anything after it
                    write_failed_ = true;
                    ::shutdown(socket_.get(), SHUT_RDWR);
                }
                throw;
            }
            continue;
        }
        if (n < 0) {
            const int err = errno;
            write_failed_ = true;
            fail("io: " + os_error_text(err));
        }
        started = true;
        for (std::size_t left = static_cast<std::size_t>(n); left > 0;) {
            const std::size_t take = std::min(left, parts[part].iov_len);
            parts[part].iov_base = static_cast<std::byte*>(parts[part].iov_base) + take;
            parts[part].iov_len -= take;
            left -= take;
            if (parts[part].iov_len == 0) ++part;
        }
    }
}

template <class M>
void AgentClient::send(std::uint32_t id, const M& message, const Cancel& cancel) {
    require(M::kType);
    protocol::ByteBuffer frame;
    if (!protocol::append_frame(frame, id, message)) {
        // Upstream's writer ends at an oversize frame; refusing just this one is kinder and nothing was written.
        fail("protocol: frame too large (max " + std::to_string(protocol::kMaxFrameLength) + ")");
    }
    write(frame, {}, cancel);
}

template void AgentClient::send(std::uint32_t, const protocol::ExecRequest&, const Cancel&);
template void AgentClient::send(std::uint32_t, const protocol::ExecResize&, const Cancel&);
template void AgentClient::send(std::uint32_t, const protocol::ExecSignal&, const Cancel&);
template void AgentClient::send(std::uint32_t, const protocol::FsRequest&, const Cancel&);
template void AgentClient::send(std::uint32_t, const protocol::Ping&, const Cancel&);
template void AgentClient::send(std::uint32_t, const protocol::Touch&, const Cancel&);
template void AgentClient::send(std::uint32_t, const protocol::Shutdown&, const Cancel&);

void AgentClient::send_data(std::uint32_t id, MessageType type, std::span<const std::byte> data,
                            const Cancel& cancel) {
    require(type);
    protocol::ByteBuffer head;
    if (!protocol::append_data_frame_head(head, id, type, data.size()))
        fail("protocol: frame too large (max " + std::to_string(protocol::kMaxFrameLength) + ")");
    write(head, data, cancel);
}

// --- ids and streams --------------------------------------------------------------------------------------------

AgentClient::Stream AgentClient::open() {
    std::scoped_lock lock(mutex_);
    const std::uint64_t ids = std::uint64_t{handshake_.end_id} - handshake_.first_id;
    for (std::uint64_t tried = 0; tried < ids && tried <= queues_.size(); ++tried) {
        const std::uint32_t id = next_id_;
        next_id_ = id + 1 == handshake_.end_id ? handshake_.first_id : id + 1;
        if (queues_.contains(id)) continue;
        auto queue = std::make_shared<Queue>();
        queue->id = id;
        queues_.emplace(id, queue);
        return Stream(shared_from_this(), std::move(queue));
    }
    fail("agent correlation id range exhausted");
}

void AgentClient::forget(std::uint32_t id) noexcept {
    {
        std::scoped_lock lock(mutex_);
        auto found = queues_.find(id);
        if (found == queues_.end()) return;
        found->second->closed = true;
        queues_.erase(found);
        if (stalled_ && stalled_->id == id) stalled_.reset();
    }
    changed_.notify_all();
}

AgentClient::Stream::Stream(std::shared_ptr<AgentClient> client, std::shared_ptr<Queue> queue)
    : client_(std::move(client)), queue_(std::move(queue)) {}
AgentClient::Stream::Stream(Stream&& other) noexcept
    : client_(std::move(other.client_)), queue_(std::move(other.queue_)) {}
AgentClient::Stream& AgentClient::Stream::operator=(Stream&& other) noexcept {
    if (this != &other) {
        close();
        client_ = std::move(other.client_);
        queue_ = std::move(other.queue_);
    }
    return *this;
}
AgentClient::Stream::~Stream() {
    close();
}

void AgentClient::Stream::close() noexcept {
    if (queue_ && client_) client_->forget(queue_->id);
    queue_.reset();
    client_.reset();
}

std::uint32_t AgentClient::Stream::id() const noexcept {
    return queue_ ? queue_->id : 0;
}

AgentClient::Stream::Result AgentClient::Stream::recv(AgentFrame& frame, const Deadline& deadline,
                                                      const Cancel& cancel) {
    return client_->receive(*queue_, frame, deadline, cancel);
}

// --- reading ----------------------------------------------------------------------------------------------------

// Gives `frame` to its stream. True: it is `own`'s and now in `out`. Call with mutex_ held; a frame for a full queue
// becomes stalled_.
bool AgentClient::route(AgentFrame frame, Queue& own, AgentFrame& out) {
    if (frame.id == own.id && own.frames.empty()) {
        out = std::move(frame);
        return true;
    }
    auto found = queues_.find(frame.id);
    if (found == queues_.end()) return false;  // late frame of a finished or foreign id
    if (found->second->frames.size() >= kStreamQueueFrames) {
        stalled_ = std::move(frame);
        return false;
    }
    found->second->frames.push_back(std::move(frame));
    changed_.notify_all();
    return false;
}

// Hands out frames already read, until one is `own`'s, none is left, or one is stalled. Call with mutex_ held and
// nobody reading.
bool AgentClient::dispatch_buffered(Queue& own, AgentFrame& out) {
    if (stalled_) {
        AgentFrame frame = std::move(*stalled_);
        stalled_.reset();
        if (route(std::move(frame), own, out)) return true;
    }
    while (!stalled_) {
        std::optional<protocol::FrameView> view = reader_.next();
        if (!view) {
            if (reader_.error()) {
                log(LogLevel::kWarn, "agent_client", "connection ended: {}", *reader_.error());
                ended_ = true;
                changed_.notify_all();
            }
            return false;
        }
        AgentFrame frame{view->id, view->flags, {view->body.begin(), view->body.end()}};
        if (route(std::move(frame), own, out)) return true;
    }
    return false;
}

// Reads once from the socket into reader_. Called by the one reading thread without mutex_.
void AgentClient::fill(const Deadline& deadline, const Cancel& cancel, bool& timed_out) {
    for (;;) {
        std::span<std::byte> space = reader_.writable(kReadBytes);
        ssize_t n = ::recv(socket_.get(), space.data(), space.size(), MSG_DONTWAIT);
        if (n > 0) {
            reader_.commit(static_cast<std::size_t>(n));
            return;
        }
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) {
            if (wait_for(socket_.get(), POLLIN, deadline, cancel) == Ready::kReady) continue;
            timed_out = true;
            return;
        }
        std::scoped_lock lock(mutex_);  // EOF or an error: the same to every stream
        ended_ = true;
        return;
    }
}

AgentClient::Stream::Result AgentClient::receive(Queue& own, AgentFrame& frame,
                                                 const Deadline& deadline, const Cancel& cancel) {
    using Result = Stream::Result;
    std::unique_lock lock(mutex_);
    for (;;) {
        cancel.throw_if_requested();
        if (!own.frames.empty()) {
            frame = std::move(own.frames.front());
            own.frames.pop_front();
            if (stalled_) changed_.notify_all();
            return Result::kFrame;
        }
        if (!reading_ && dispatch_buffered(own, frame)) return Result::kFrame;
        if (!own.frames.empty()) continue;
        if (ended_ && !reading_ && !stalled_) return Result::kEnd;
        if (!reading_ && !stalled_) {
            reading_ = true;
            lock.unlock();
            bool timed_out = false;
            // Another waiter takes over reading however this thread leaves.
            struct Leave {
                AgentClient& client;
                ~Leave() {
                    {
                        std::scoped_lock guard(client.mutex_);
                        client.reading_ = false;
                    }
                    client.changed_.notify_all();
                }
            };
            {
                Leave leave{*this};
                fill(deadline, cancel, timed_out);
            }
            lock.lock();
            if (timed_out && own.frames.empty()) return Result::kTimeout;
            continue;
        }
        // Someone else reads, or a full stream holds everything up: wait for a change.
        // (The wait forms that take a stop_token want a condition; this one holds from the first wake-up on.)
        auto woken = [seen = false]() mutable { return std::exchange(seen, true); };
        if (!deadline) {
            changed_.wait(lock, cancel.token(), woken);
        } else {
            changed_.wait_until(lock, cancel.token(), *deadline, woken);
            if (Clock::now() >= *deadline && own.frames.empty()) return Result::kTimeout;
        }
    }
}

AgentFrame AgentClient::request_frame(Stream& stream, const Deadline& deadline,
                                      const Cancel& cancel) {
    AgentFrame frame;
    switch (stream.recv(frame, deadline, cancel)) {
        case Stream::Result::kFrame:
            return frame;
        case Stream::Result::kTimeout:
            fail("timed out waiting for response for id=" + std::to_string(stream.id()));
        case Stream::Result::kEnd:
            break;
    }
    fail("reader closed before response for id=" + std::to_string(stream.id()));
}

template <class Reply, class Request>
Reply AgentClient::request(const Request& message, const Deadline& deadline, const Cancel& cancel) {
    require(Request::kType);
    Stream stream = open();
    send(stream.id(), message, cancel);
    AgentFrame frame = request_frame(stream, deadline, cancel);
    auto envelope = protocol::decode_envelope(frame.body);
    if (!envelope) fail("protocol: cbor decode error: " + envelope.error().message);
    if (envelope->type == MessageType::kError) {
        auto error = protocol::decode_payload<protocol::ErrorMessage>(envelope->payload.span());
        if (error) throw_agent_error(*error);
    }
    if (envelope->type != Reply::kType)
        fail("protocol: unexpected response type " + std::string(envelope->type_name));
    auto reply = protocol::decode_payload<Reply>(envelope->payload.span());
    if (!reply) fail("protocol: cbor decode error: " + reply.error().message);
    return std::move(*reply);
}

template protocol::FsResponse AgentClient::request(const protocol::FsRequest&, const Deadline&,
                                                   const Cancel&);
template protocol::Pong AgentClient::request(const protocol::Ping&, const Deadline&, const Cancel&);
template protocol::Touched AgentClient::request(const protocol::Touch&, const Deadline&,
                                                const Cancel&);

void throw_agent_error(const protocol::ErrorMessage& error) {
    fail("core.error " + std::string(protocol::to_string(error.kind)) + ": " + error.message);
}

std::optional<TypedFrame> decode_frame(const AgentFrame& frame) {
    auto envelope = protocol::decode_envelope(frame.body);
    if (!envelope) {
        log(LogLevel::kWarn, "agent_client", "skipping undecodable frame id={}: {}", frame.id,
            envelope.error().message);
        return std::nullopt;
    }
    if (!envelope->type) {
        log(LogLevel::kWarn, "agent_client", "skipping frame id={} of unknown type {}", frame.id,
            envelope->type_name);
        return std::nullopt;
    }
    return TypedFrame{*envelope->type, std::move(envelope->payload)};
}

}  // namespace msb::sdk
