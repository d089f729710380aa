// The relay between many clients and one guest agent (spec/protocol.md section 7), without any I/O of its own: bytes
// come in through calls, bytes go out through RelayPort. Sockets, timers and files are wired around it elsewhere, so
// that all of its rules can be tested and fuzzed in memory.
//
// Flow control, both directions isolated per client:
//   guest -> client   Frames are written straight from the receive buffer. What a client does not take at once is kept
//                     for it (order preserved, nothing dropped). Above kOutputPause the observer is told to stop the
//                     guest producing for that client's ids; at kOutputLimit, or when it has the largest backlog while
//                     all together exceed kTotalOutputLimit, the client is disconnected. Others never wait for it.
//   client -> guest   Frames are written straight through while the guest takes them. Otherwise every client has its
//                     own lane, lanes are served in turn by whole frames, and a client whose lane holds more than
//                     kLanePause is not read until it is below kLaneResume.
//
// Single-threaded. Ports must not call the relay from inside write_some(), set_reading() or closed().
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "contract/exec_log.h"
#include "protocol/codec.h"
#include "runtime/byte_queue.h"

namespace msb::runtime {

inline constexpr std::size_t kOutputPause = 1u << 20;
inline constexpr std::size_t kOutputResume = 256u << 10;
inline constexpr std::size_t kOutputLimit = 64u << 20;
inline constexpr std::size_t kTotalOutputLimit = 256u << 20;
inline constexpr std::size_t kLanePause = 1u << 20;
inline constexpr std::size_t kLaneResume = 256u << 10;
// Bytes of one lane written before the next lane has its turn (at least one frame).
inline constexpr std::size_t kLaneTurn = 64u << 10;
// Bytes to read from a socket at once.
inline constexpr std::size_t kReadBytes = 256u << 10;
// A core.ready frame is repeated to every client: ours has about 100 bytes.
inline constexpr std::size_t kMaxReadyFrame = 64u << 10;
// Exec sessions of one client that the guest has not ended.
inline constexpr std::size_t kMaxExecsPerClient = 65'536;

// The far end of one byte stream.
class RelayPort {
  public:
    virtual ~RelayPort() = default;
    // Takes what it can without blocking and returns how much. After less than everything the relay waits for
    // client_writable()/guest_writable(). nullopt: the stream is broken for good.
    virtual std::optional<std::size_t> write_some(std::span<const std::byte> bytes) = 0;
    // While off, no bytes of this stream may be given to the relay.
    virtual void set_reading(bool on) = 0;
    // The relay has dropped this client and will not touch the port again.
    virtual void closed() = 0;
};

class RelayObserver {
  public:
    virtual ~RelayObserver() = default;
    virtual void on_ready(const protocol::Ready& ready) = 0;
    // The guest did not follow the boot order: the sandbox cannot be used.
    virtual void on_boot_failure(const std::string& reason) = 0;
    // A client sent its first SHUTDOWN frame (already on its way to the guest).
    virtual void on_shutdown_requested() = 0;
    // Output for ids in [id_start, id_end) should stop (or go on): its client does not keep up.
    virtual void on_client_flow(std::uint32_t id_start, std::uint32_t id_end, bool paused) = 0;
};

// Where the output of exec sessions is recorded: after the frames have been delivered, but before the end of their
// session is.
class ExecTap {
  public:
    virtual ~ExecTap() = default;
    virtual void output(std::uint64_t session, contract::LogSource source,
                        std::span<const std::byte> bytes) = 0;
    virtual void flush() = 0;  // end of one batch
};

class Relay {
  public:
    // All must outlive the relay; `tap` may be null.
    Relay(RelayPort& guest, RelayObserver& observer, ExecTap* tap);
    ~Relay();

    // --- host to guest ---
    // The first frame of the stream. False when it does not fit a frame.
    [[nodiscard]] bool send_bootstrap(const protocol::Bootstrap& bootstrap);
    void send_clock_sync(std::uint64_t unix_ns);
    void send_shutdown();

    // --- guest stream: read into guest_buffer(), then tell how much ---
    std::span<std::byte> guest_buffer();
    void guest_received(std::size_t count);
    void guest_writable();
    // Host bytes the guest has not taken yet.
    std::size_t guest_backlog() const noexcept { return lane_bytes_; }

    // --- clients; only once ready() ---
    bool ready() const noexcept { return !ready_frame_.empty(); }
    // The client's slot; its handshake has been written. nullopt: no slot is free.
    std::optional<unsigned> add_client(RelayPort& port);
    std::span<std::byte> client_buffer(unsigned slot);
    void client_received(unsigned slot, std::size_t count);
    void client_writable(unsigned slot);
    // The client is gone (EOF, error): clean up after it. closed() is called too.
    void remove_client(unsigned slot);
    std::size_t client_count() const noexcept { return clients_; }

    struct Counters {
        std::uint64_t frames_to_clients = 0;
        std::uint64_t frames_dropped = 0;       // for an empty slot or a killed session
        std::uint64_t guest_resyncs = 0;        // corrupt guest data discarded
        std::uint64_t clients_cut_off = 0;      // disconnected because they did not read
        std::uint64_t protocol_violations = 0;  // clients disconnected for breaking a rule
    };
    const Counters& counters() const noexcept { return counters_; }

    static std::uint32_t id_start(unsigned slot) noexcept;
    static std::uint32_t id_end(unsigned slot) noexcept;

  private:
    struct ExecSession {
        std::uint64_t log_id = 0;
        bool tty = false;
    };
    // Frames on their way to the guest. `turn` bytes at the head must be written before another lane may be.
    struct Lane {
        ByteQueue queue;
        std::size_t turn = 0;
        std::optional<unsigned> slot;  // nullopt: the relay's own frames
    };
    struct Slot {
        RelayPort* port = nullptr;  // null: no client
        protocol::FrameReader input;
        ByteQueue output;
        Lane lane;
        std::unordered_map<std::uint32_t, ExecSession> execs;
        // Ids of killed sessions of an earlier client that the guest has not ended yet: their frames go nowhere, and
        // the slot is used again only when no other is left (spec/protocol.md section 7.5, hazard).
        std::unordered_set<std::uint32_t> lingering;
        bool reading = true;
        bool flow_paused = false;
        bool doomed = false;
    };
    // Adjacent frames of the receive buffer for one client: delivered by one write.
    struct Run {
        unsigned slot = 0;
        std::span<const std::byte> bytes;
    };
    struct Tapped {
        ExecSession session;
        std::span<const std::byte> body;
    };

    void route_guest_frame(const protocol::FrameView& frame);
    void handle_boot_frame(const protocol::FrameView& frame);
    void become_ready(const protocol::FrameView& frame, const protocol::Ready& ready);
    void fail_boot(const std::string& reason);
    void recover_guest_stream();
    void extend_run(unsigned slot, std::span<const std::byte> frame);
    void flush_run();
    void deliver(unsigned slot, std::span<const std::byte> bytes);
    void check_backlog(unsigned slot);
    unsigned largest_backlog() const noexcept;
    void record_output();

    bool admit_client_frame(unsigned slot, const protocol::FrameView& frame);
    void start_session(Slot& slot, const protocol::FrameView& frame);
    void track_session(unsigned slot, const protocol::FrameView& frame);
    void doom(unsigned slot);
    void sweep();
    void disconnect(unsigned slot);
    std::optional<unsigned> choose_slot() const noexcept;

    template <class Message>
    void send_control(const Message& message);
    void send_frames(Lane& lane, std::span<const std::byte> frames);
    void drain_lanes();
    Lane* next_lane();
    std::size_t turn_length(const Lane& lane) const;
    void resume_reading(const Lane& lane);

    RelayPort& guest_;
    RelayObserver& observer_;
    ExecTap* tap_;
    protocol::FrameReader guest_input_;
    std::vector<std::byte> ready_frame_;
    bool init_acknowledged_ = false;
    bool boot_failed_ = false;
    bool guest_broken_ = false;
    bool shutdown_seen_ = false;
    std::array<Slot, protocol::kMaxClients> slots_;
    unsigned next_slot_ = 0;
    std::size_t clients_ = 0;
    std::size_t output_bytes_ = 0;  // of all clients
    Lane control_;
    std::size_t lane_bytes_ = 0;  // of all lanes
    Lane* current_lane_ = nullptr;
    unsigned next_lane_ = 0;
    std::uint64_t next_log_id_ = 1;
    Run run_;
    std::vector<Tapped> tapped_;
    std::vector<unsigned> doomed_;
    Counters counters_;
};

}  // namespace msb::runtime
