// One connection to the guest agent through the relay: handshake, ids, many streams at once (spec/protocol.md sections 6,
// 7 and 12).
//
// There is no thread behind a connection. Whoever waits for a frame reads the socket for everybody and hands frames of
// other streams over (one reader at a time); a stream nobody waits for holds at most kStreamQueueFrames frames, then
// reading stops until its consumer takes some. So a connection used for one stream costs no hand-over at all, and one
// that nobody reads exerts back-pressure on the guest.
//
// Thread-safe. All errors are Error{kAgentClient} unless said otherwise.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <filesystem>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/fd.h"
#include "protocol/codec.h"
#include "sdk/agent_handshake.h"
#include "sdk/wait.h"

namespace msb::sdk {

inline constexpr std::size_t kStreamQueueFrames = 1024;

// A frame of one stream, independent of the connection's buffers.
struct AgentFrame {
    std::uint32_t id = 0;
    std::uint8_t flags = 0;
    std::vector<std::byte> body;  // envelope

    bool terminal() const noexcept { return (flags & protocol::kFlagTerminal) != 0; }
};

class AgentClient : public std::enable_shared_from_this<AgentClient> {
    struct Queue;

  public:
    // The frames of one id. Destroying it forgets the id; late frames are dropped. Used by one thread at a time.
    class Stream {
      public:
        Stream() = default;
        Stream(Stream&& other) noexcept;
        Stream& operator=(Stream&& other) noexcept;
        ~Stream();

        std::uint32_t id() const noexcept;
        explicit operator bool() const noexcept { return queue_ != nullptr; }

        enum class Result { kFrame, kEnd, kTimeout };
        // kEnd: the connection is gone and everything received was taken. Throws Error{kCancelled}.
        Result recv(AgentFrame& frame, const Deadline& deadline, const Cancel& cancel);

      private:
        friend class AgentClient;
        Stream(std::shared_ptr<AgentClient> client, std::shared_ptr<Queue> queue);
        void close() noexcept;
        std::shared_ptr<AgentClient> client_;
        std::shared_ptr<Queue> queue_;
    };

    // "connect <path>: ...", "handshake: ...".
    static std::shared_ptr<AgentClient> connect(const std::filesystem::path& socket,
                                                const Deadline& deadline, const Cancel& cancel);
    // Takes a connected socket whose peer has not been read from.
    static std::shared_ptr<AgentClient> adopt(UniqueFd socket, const Deadline& deadline,
                                              const Cancel& cancel);
    ~AgentClient();

    const protocol::Ready& ready() const noexcept { return handshake_.ready; }
    std::uint8_t generation() const noexcept { return handshake_.generation; }
    // The guest's end is still open, as far as one can tell without waiting.
    bool usable();
    // Ends every stream and every later call. Idempotent, from any thread.
    void close() noexcept;

    // Throws Error{kUnsupportedOperation} when the negotiated generation does not know the type. Nothing is written.
    void require(protocol::MessageType type) const;

    // Allocates an id. Throws "agent correlation id range exhausted".
    Stream open();
    // Writes one frame; blocks while the relay takes nothing. A cancellation in mid-frame ends the connection.
    // Throws "client closed" after any earlier write failure, "io: ..." for this one.
    template <class M>
    void send(std::uint32_t id, const M& message, const Cancel& cancel = {});
    // The bulk form for exec stdin, fs data and tcp data: `data` is not copied. At most kMaxDataBytes.
    void send_data(std::uint32_t id, protocol::MessageType type, std::span<const std::byte> data,
                   const Cancel& cancel = {});

    // Sends and takes the first frame of that id; decodes it as `Reply`. A core.error reply throws its message.
    template <class Reply, class Request>
    Reply request(const Request& message, const Deadline& deadline, const Cancel& cancel);

    // The reply of request() as it came.
    AgentFrame request_frame(Stream& stream, const Deadline& deadline, const Cancel& cancel);

    // Fs chunks (spec/protocol.md section 0); stays far below the frame limit.
    static constexpr std::size_t kMaxDataBytes = 3u << 20;

  private:
    AgentClient(UniqueFd socket, Handshake handshake, protocol::ByteView rest);

    struct Queue {
        std::uint32_t id = 0;
        std::deque<AgentFrame> frames;
        bool closed = false;  // its Stream is gone
    };

    void write(std::span<const std::byte> head, std::span<const std::byte> data,
               const Cancel& cancel);
    Stream::Result receive(Queue& queue, AgentFrame& frame, const Deadline& deadline,
                           const Cancel& cancel);
    bool route(AgentFrame frame, Queue& own, AgentFrame& out);
    bool dispatch_buffered(Queue& own, AgentFrame& out);
    void fill(const Deadline& deadline, const Cancel& cancel, bool& timed_out);
    void forget(std::uint32_t id) noexcept;

    UniqueFd socket_;
    Handshake handshake_;

    std::mutex write_mutex_;
    bool write_failed_ = false;

    std::mutex mutex_;  // everything below
    std::condition_variable_any changed_;
    std::unordered_map<std::uint32_t, std::shared_ptr<Queue>> queues_;
    std::optional<AgentFrame> stalled_;  // next frame, for a stream whose queue is full
    std::uint32_t next_id_;
    bool reading_ = false;  // a thread is in fill()
    bool ended_ = false;    // EOF, error or close()
    protocol::FrameReader
        reader_;  // touched by the reading thread, or under mutex_ when nobody reads
};

// Error{kAgentClient} "core.error ...": the message of a core.error frame.
[[noreturn]] void throw_agent_error(const protocol::ErrorMessage& error);

// Decodes a frame of a typed stream. nullopt (after a log line) for frames upstream clients skip: undecodable envelopes,
// unknown types.
struct TypedFrame {
    protocol::MessageType type;
    protocol::Bytes payload;  // view into the frame's body
};
std::optional<TypedFrame> decode_frame(const AgentFrame& frame);

}  // namespace msb::sdk
