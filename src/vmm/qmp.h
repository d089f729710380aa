// The engine's control channel: newline-delimited JSON over an inherited socket.
//
// The peer may be an engine a guest has taken over: lines are bounded, anything that is not a
// message is a protocol violation, and no value of it is used as a path, pid or size unchecked.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"

namespace msb::vmm {

inline constexpr std::size_t kMaxQmpLine = 256 * 1024;  // 64 vCPUs answer query-cpus-fast in 20 KB
inline constexpr std::size_t kMaxQmpVcpus = 1024;

// One message, reduced to what the machine acts on.
struct QmpMessage {
    enum class Kind { kGreeting, kReturn, kError, kEvent };
    Kind kind = Kind::kEvent;
    // kGreeting
    std::uint32_t version_major = 0, version_minor = 0, version_micro = 0;
    // kReturn, kError
    std::optional<std::uint64_t> id;
    std::string status;                    // query-status
    std::vector<std::int64_t> thread_ids;  // query-cpus-fast
    std::string error;                     // "class: description"
    // kReturn of query-balloon, event BALLOON_CHANGE: bytes the guest has
    std::optional<std::uint64_t> balloon_actual;
    // kEvent
    std::string event;   // "SHUTDOWN", "STOP", ...
    std::string reason;  // SHUTDOWN
    bool guest_requested = false;
};

// nullopt: not a QMP message. Never throws.
std::optional<QmpMessage> parse_qmp_message(std::string_view line);

// Cuts a byte stream into lines of at most kMaxQmpLine bytes.
class QmpLineBuffer {
  public:
    // False once a line is too long; the stream is lost then.
    bool append(std::string_view bytes);
    std::optional<std::string> next_line();

  private:
    std::string buffer_;
    std::size_t scanned_ = 0;  // no newline before this
    std::size_t start_ = 0;    // of the first unread line
};

// Commands are fire and forget; the answer arrives through receive() with the id send() returned.
class QmpClient {
  public:
    explicit QmpClient(UniqueFd socket);  // made non-blocking

    int fd() const noexcept { return socket_.get(); }
    bool closed() const noexcept { return closed_; }
    // Why the channel was given up although the engine lives; empty otherwise.
    const std::string& violation() const noexcept { return violation_; }
    bool wants_write() const noexcept { return !closed_ && !output_.empty(); }

    // `arguments` is a JSON object or empty. The command goes out now, as far as the socket takes it.
    std::uint64_t send(std::string_view command, std::string_view arguments = {});
    void flush();
    // Reads what is there, at most a bounded amount per call (call again while fd() is readable).
    std::vector<QmpMessage> receive();

  private:
    UniqueFd socket_;
    QmpLineBuffer input_;
    std::string output_;
    std::uint64_t next_id_ = 1;
    bool closed_ = false;
    std::string violation_;
};

}  // namespace msb::vmm
