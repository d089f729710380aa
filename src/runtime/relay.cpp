#include "runtime/relay.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "base/log.h"

namespace msb::runtime {
namespace {

constexpr std::string_view kLog = "msb::relay";
constexpr int kSigkill = 9;

std::size_t big_endian_u32(std::span<const std::byte, 4> bytes) noexcept {
    return static_cast<std::size_t>(bytes[0]) << 24 | static_cast<std::size_t>(bytes[1]) << 16 |
           static_cast<std::size_t>(bytes[2]) << 8 | static_cast<std::size_t>(bytes[3]);
}

void put_big_endian_u32(std::span<std::byte, 4> out, std::uint32_t value) noexcept {
    for (std::size_t i = 0; i < 4; ++i)
        out[i] = static_cast<std::byte>(value >> (24 - 8 * i));
}

}  // namespace

std::uint32_t Relay::id_start(unsigned slot) noexcept {
    return slot * protocol::kIdRangeStep + 1;
}
std::uint32_t Relay::id_end(unsigned slot) noexcept {
    return (slot + 1) * protocol::kIdRangeStep;
}

Relay::Relay(RelayPort& guest, RelayObserver& observer, ExecTap* tap)
    : guest_(guest), observer_(observer), tap_(tap) {
    for (unsigned slot = 0; slot < slots_.size(); ++slot)
        slots_[slot].lane.slot = slot;
}

Relay::~Relay() = default;

// --- clients ----------------------------------------------------------------------------------------------------

// Round robin, so that late frames of a killed session find an empty slot and not the next client; slots where such
// frames are still expected come last.
std::optional<unsigned> Relay::choose_slot() const noexcept {
    std::optional<unsigned> second_choice;
    for (unsigned i = 0; i < slots_.size(); ++i) {
        const unsigned slot = (next_slot_ + i) % slots_.size();
        if (slots_[slot].port) continue;
        if (slots_[slot].lingering.empty() && slots_[slot].lane.queue.empty()) return slot;
        if (!second_choice) second_choice = slot;
    }
    return second_choice;
}

std::optional<unsigned> Relay::add_client(RelayPort& port) {
    const auto slot = choose_slot();
    if (!ready() || !slot) return std::nullopt;
    next_slot_ = (*slot + 1) % slots_.size();
    Slot& s = slots_[*slot];
    s.port = &port;
    s.input.clear();
    s.reading = true;
    ++clients_;
    std::vector<std::byte> handshake(8);
    put_big_endian_u32(std::span(handshake).subspan<0, 4>(), id_start(*slot));
    put_big_endian_u32(std::span(handshake).subspan<4, 4>(), id_end(*slot));
    handshake.insert(handshake.end(), ready_frame_.begin(), ready_frame_.end());
    deliver(*slot, handshake);
    return slot;
}

std::span<std::byte> Relay::client_buffer(unsigned slot) {
    return slots_[slot].input.writable(kReadBytes);
}

void Relay::client_received(unsigned slot, std::size_t count) {
    Slot& s = slots_[slot];
    s.input.commit(count);
    std::span<const std::byte> run;  // admitted frames, adjacent in the buffer
    while (auto frame = s.input.next()) {
        if (!admit_client_frame(slot, *frame)) {
            ++counters_.protocol_violations;
            doom(slot);
            break;
        }
        run = run.empty() ? frame->frame : std::span(run.data(), run.size() + frame->frame.size());
    }
    if (s.input.error() && !s.doomed) {
        log(LogLevel::kWarn, kLog, "client of slot {} disconnected: {}", slot, *s.input.error());
        ++counters_.protocol_violations;
        doom(slot);
    }
    if (!run.empty()) {
        send_frames(s.lane, run);
        if (s.reading && s.lane.queue.size() > kLanePause) {
            s.reading = false;
            s.port->set_reading(false);
        }
    }
    sweep();
}

// The rules of section 7.3 that need only the header, and the book-keeping of exec sessions.
bool Relay::admit_client_frame(unsigned slot, const protocol::FrameView& frame) {
    const bool shutdown = (frame.flags & protocol::kFlagShutdown) != 0;
    const bool in_range = frame.id >= id_start(slot) && frame.id < id_end(slot);
    if (!in_range && !(shutdown && frame.id == 0)) {
        log(LogLevel::kWarn, kLog, "client of slot {} disconnected: id {} is not in its range",
            slot, frame.id);
        return false;
    }
    if (shutdown && !shutdown_seen_) {
        shutdown_seen_ = true;
        observer_.on_shutdown_requested();
    }
    Slot& s = slots_[slot];
    if ((frame.flags & protocol::kFlagSessionStart) != 0) start_session(s, frame);
    if ((frame.flags & protocol::kFlagTerminal) != 0) s.execs.erase(frame.id);
    if (s.execs.size() > kMaxExecsPerClient) {
        log(LogLevel::kWarn, kLog, "client of slot {} disconnected: more than {} exec sessions",
            slot, kMaxExecsPerClient);
        return false;
    }
    return true;
}

void Relay::start_session(Slot& slot, const protocol::FrameView& frame) {
    const auto envelope = protocol::decode_envelope(frame.body);
    if (!envelope || envelope->type != protocol::MessageType::kExecRequest) return;
    const auto request = protocol::decode_payload<protocol::ExecRequest>(envelope->payload.span());
    slot.execs[frame.id] = {.log_id = next_log_id_++, .tty = request && request->tty};
    slot.lingering.erase(frame.id);
}

void Relay::client_writable(unsigned slot) {
    Slot& s = slots_[slot];
    while (s.port && !s.doomed && !s.output.empty()) {
        const auto head = s.output.front();
        const auto taken = s.port->write_some(head);
        if (!taken) {
            doom(slot);
            break;
        }
        s.output.consume(*taken);
        output_bytes_ -= *taken;
        if (*taken < head.size()) break;
    }
    if (s.flow_paused && !s.doomed && s.output.size() <= kOutputResume) {
        s.flow_paused = false;
        observer_.on_client_flow(id_start(slot), id_end(slot), false);
    }
    sweep();
}

void Relay::remove_client(unsigned slot) {
    doom(slot);
    sweep();
}

void Relay::doom(unsigned slot) {
    if (!slots_[slot].port || slots_[slot].doomed) return;
    slots_[slot].doomed = true;
    doomed_.push_back(slot);
}

// Clients are taken apart at the end of an entry point, never in the middle of routing.
void Relay::sweep() {
    while (!doomed_.empty()) {
        const unsigned slot = doomed_.back();
        doomed_.pop_back();
        disconnect(slot);
    }
}

// Section 7.5, in its order.
void Relay::disconnect(unsigned slot) {
    Slot& s = slots_[slot];
    RelayPort* port = std::exchange(s.port, nullptr);
    s.doomed = false;
    s.input.clear();
    output_bytes_ -= s.output.size();
    s.output.clear();
    --clients_;
    protocol::ByteBuffer frames;
    bool fits = true;
    for (const auto& [id, session] : s.execs) {
        fits = fits && protocol::append_frame(frames, id, protocol::ExecSignal{.signal = kSigkill});
        s.lingering.insert(id);
    }
    s.execs.clear();
    fits = fits &&
           protocol::append_frame(frames, 0,
                                  protocol::ClientDisconnected{.id_start = id_start(slot),
                                                               .id_end_exclusive = id_end(slot)});
    if (fits) send_frames(s.lane, frames);
    if (s.flow_paused) {
        s.flow_paused = false;
        observer_.on_client_flow(id_start(slot), id_end(slot), false);
    }
    port->closed();
}

// --- guest to clients -------------------------------------------------------------------------------------------

std::span<std::byte> Relay::guest_buffer() {
    return guest_input_.writable(kReadBytes);
}

void Relay::guest_received(std::size_t count) {
    guest_input_.commit(count);
    for (;;) {
        while (auto frame = guest_input_.next())
            route_guest_frame(*frame);
        flush_run();
        record_output();
        if (!guest_input_.error()) break;
        recover_guest_stream();
    }
    sweep();
}

// A length beyond the limit says that the stream is out of step: everything buffered goes. A length too short for a
// header is one bad frame: it goes alone (section 7.4).
void Relay::recover_guest_stream() {
    // A guest that sends nothing but nonsense must not fill the log with it.
    if (std::has_single_bit(++counters_.guest_resyncs))
        log(LogLevel::kWarn, kLog, "corrupt data from the guest discarded ({} times so far): {}",
            counters_.guest_resyncs, *guest_input_.error());
    if (!guest_input_.skip_short_frame()) guest_input_.clear();
}

void Relay::route_guest_frame(const protocol::FrameView& frame) {
    if (!ready()) {
        handle_boot_frame(frame);
        return;
    }
    const unsigned slot = std::min(frame.id / protocol::kIdRangeStep, protocol::kMaxClients - 1);
    Slot& s = slots_[slot];
    if (s.lingering.contains(frame.id)) {
        if ((frame.flags & protocol::kFlagTerminal) != 0) s.lingering.erase(frame.id);
        ++counters_.frames_dropped;
        return;
    }
    track_session(slot, frame);
    if (!s.port || s.doomed) {
        ++counters_.frames_dropped;
        return;
    }
    ++counters_.frames_to_clients;
    extend_run(slot, frame.frame);
}

void Relay::track_session(unsigned slot, const protocol::FrameView& frame) {
    Slot& s = slots_[slot];
    const auto session = s.execs.find(frame.id);
    if (session == s.execs.end()) return;
    if (tap_) tapped_.push_back({.session = session->second, .body = frame.body});
    if ((frame.flags & protocol::kFlagTerminal) == 0) return;
    s.execs.erase(session);
    // Whoever sees the end of a session finds all of its output in the log.
    flush_run();
    record_output();
}

void Relay::extend_run(unsigned slot, std::span<const std::byte> frame) {
    if (!run_.bytes.empty() && run_.slot == slot &&
        run_.bytes.data() + run_.bytes.size() == frame.data()) {
        run_.bytes = {run_.bytes.data(), run_.bytes.size() + frame.size()};
        return;
    }
    flush_run();
    run_ = {.slot = slot, .bytes = frame};
}

void Relay::flush_run() {
    const Run run = std::exchange(run_, {});
    if (!run.bytes.empty()) deliver(run.slot, run.bytes);
}

void Relay::deliver(unsigned slot, std::span<const std::byte> bytes) {
    Slot& s = slots_[slot];
    if (!s.port || s.doomed) return;
    if (s.output.empty()) {
        const auto taken = s.port->write_some(bytes);
        if (!taken) {
            doom(slot);
            return;
        }
        bytes = bytes.subspan(*taken);
    }
    if (bytes.empty()) return;
    s.output.append(bytes);
    output_bytes_ += bytes.size();
    check_backlog(slot);
}

void Relay::check_backlog(unsigned slot) {
    Slot& s = slots_[slot];
    if (!s.flow_paused && s.output.size() > kOutputPause) {
        s.flow_paused = true;
        observer_.on_client_flow(id_start(slot), id_end(slot), true);
    }
    unsigned victim = slot;
    if (s.output.size() <= kOutputLimit) {
        if (output_bytes_ <= kTotalOutputLimit) return;
        victim = largest_backlog();
    }
    Slot& cut = slots_[victim];
    if (cut.doomed) return;
    log(LogLevel::kWarn, kLog,
        "client of slot {} disconnected: it does not read and {} bytes wait for it", victim,
        cut.output.size());
    ++counters_.clients_cut_off;
    output_bytes_ -= cut.output.size();
    cut.output.clear();
    doom(victim);
}

unsigned Relay::largest_backlog() const noexcept {
    const auto largest =
        std::ranges::max_element(slots_, {}, [](const Slot& slot) { return slot.output.size(); });
    return static_cast<unsigned>(largest - slots_.begin());
}

// Decodes what was delivered of tracked sessions; the bodies still lie in the receive buffer.
void Relay::record_output() {
    if (tapped_.empty()) return;
    for (const Tapped& item : tapped_) {
        const auto envelope = protocol::decode_envelope(item.body);
        if (!envelope) continue;
        const bool is_stdout = envelope->type == protocol::MessageType::kExecStdout;
        if (!is_stdout && envelope->type != protocol::MessageType::kExecStderr) continue;
        const auto output =
            protocol::decode_payload<protocol::ExecStdout>(envelope->payload.span());
        if (!output || output->data.empty()) continue;
        const auto source = item.session.tty ? contract::LogSource::kOutput
                            : is_stdout      ? contract::LogSource::kStdout
                                             : contract::LogSource::kStderr;
        tap_->output(item.session.log_id, source, output->data.span());
    }
    tapped_.clear();
    tap_->flush();
}

// --- boot -------------------------------------------------------------------------------------------------------

void Relay::fail_boot(const std::string& reason) {
    if (std::exchange(boot_failed_, true)) return;
    observer_.on_boot_failure("agent relay: " + reason);
}

void Relay::handle_boot_frame(const protocol::FrameView& frame) {
    if (boot_failed_) return;
    const auto envelope = protocol::decode_envelope(frame.body);
    if (!envelope) return fail_boot("decode boot frame: " + envelope.error().message);
    if (envelope->type == protocol::MessageType::kInitResolved) {
        const auto resolved =
            protocol::decode_payload<protocol::InitResolved>(envelope->payload.span());
        if (!resolved) return fail_boot("decode core.init.resolved: " + resolved.error().message);
        // The acknowledgement must be the very next host frame, and there is only one.
        if (!std::exchange(init_acknowledged_, true)) send_control(protocol::InitAck{});
    } else if (envelope->type == protocol::MessageType::kReady) {
        const auto ready = protocol::decode_payload<protocol::Ready>(envelope->payload.span());
        if (!ready) return fail_boot("decode core.ready: " + ready.error().message);
        if (frame.frame.size() > kMaxReadyFrame) return fail_boot("core.ready is too large");
        become_ready(frame, *ready);
    }
}

void Relay::become_ready(const protocol::FrameView& frame, const protocol::Ready& ready) {
    ready_frame_.assign(frame.frame.begin(), frame.frame.end());
    observer_.on_ready(ready);
}

// --- to the guest -----------------------------------------------------------------------------------------------

bool Relay::send_bootstrap(const protocol::Bootstrap& bootstrap) {
    protocol::ByteBuffer frame;
    if (!protocol::append_frame(frame, 0, bootstrap)) return false;
    send_frames(control_, frame);
    return true;
}

template <class Message>
void Relay::send_control(const Message& message) {
    protocol::ByteBuffer frame;
    if (protocol::append_frame(frame, 0, message)) send_frames(control_, frame);
}

void Relay::send_clock_sync(std::uint64_t unix_ns) {
    send_control(protocol::ClockSync{.unix_time_nanos = unix_ns});
}

void Relay::send_shutdown() {
    send_control(protocol::Shutdown{});
}

// `frames` are whole frames. While nothing waits they are written without being copied.
void Relay::send_frames(Lane& lane, std::span<const std::byte> frames) {
    if (guest_broken_) return;
    std::size_t written = 0;
    if (lane_bytes_ == 0) {
        const auto taken = guest_.write_some(frames);
        if (!taken) {
            guest_broken_ = true;
            return;
        }
        written = *taken;
        if (written == frames.size()) return;
        // The frame that was cut has to be finished before any other lane's.
        std::size_t boundary = 0;
        while (boundary < written)
            boundary += protocol::kLengthPrefix +
                        big_endian_u32(frames.subspan(boundary).first<protocol::kLengthPrefix>());
        lane.turn = boundary - written;
        current_lane_ = &lane;
    }
    lane.queue.append(frames.subspan(written));
    lane_bytes_ += frames.size() - written;
}

void Relay::guest_writable() {
    drain_lanes();
    sweep();
}

void Relay::drain_lanes() {
    while (Lane* lane = guest_broken_ ? nullptr : next_lane()) {
        while (lane->turn > 0) {
            auto head = lane->queue.front();
            head = head.first(std::min(head.size(), lane->turn));
            const auto taken = guest_.write_some(head);
            if (!taken) {
                guest_broken_ = true;
                return;
            }
            lane->queue.consume(*taken);
            lane->turn -= *taken;
            lane_bytes_ -= *taken;
            if (*taken < head.size()) return;
        }
    }
}

Relay::Lane* Relay::next_lane() {
    if (current_lane_ && current_lane_->turn > 0) return current_lane_;
    if (const Lane* done = std::exchange(current_lane_, nullptr)) resume_reading(*done);
    if (lane_bytes_ == 0) return nullptr;
    if (!control_.queue.empty()) {
        current_lane_ = &control_;
    } else {
        do
            next_lane_ = (next_lane_ + 1) % slots_.size();
        while (slots_[next_lane_].lane.queue.empty());
        current_lane_ = &slots_[next_lane_].lane;
    }
    current_lane_->turn = turn_length(*current_lane_);
    return current_lane_;
}

// Whole frames, at least one, up to kLaneTurn bytes.
std::size_t Relay::turn_length(const Lane& lane) const {
    std::size_t length = 0;
    while (length < lane.queue.size()) {
        std::array<std::byte, protocol::kLengthPrefix> prefix{};
        lane.queue.peek(length, prefix);
        const std::size_t next = length + protocol::kLengthPrefix + big_endian_u32(prefix);
        if (length > 0 && next > kLaneTurn) break;
        length = next;
    }
    return length;
}

// A lane that has shrunk enough: its client may send again.
void Relay::resume_reading(const Lane& lane) {
    if (!lane.slot || lane.queue.size() > kLaneResume) return;
    Slot& s = slots_[*lane.slot];
    if (s.port && !s.doomed && !s.reading) {
        s.reading = true;
        s.port->set_reading(true);
    }
}

}  // namespace msb::runtime
