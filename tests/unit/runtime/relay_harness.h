// A relay between ports in memory: what it writes is kept, how much it may write is set by the test.
#pragma once

#include <cstring>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "runtime/relay.h"

namespace msb::runtime::testing {

struct Frame {
    std::uint32_t id = 0;
    std::uint8_t flags = 0;
    std::string type;
    std::vector<std::byte> payload;
    std::vector<std::byte> raw;
};

class MemoryPort : public RelayPort {
  public:
    std::optional<std::size_t> write_some(std::span<const std::byte> bytes) override {
        if (broken) return std::nullopt;
        const std::size_t count = std::min(bytes.size(), capacity);
        written.insert(written.end(), bytes.begin(),
                       bytes.begin() + static_cast<std::ptrdiff_t>(count));
        capacity -= count;
        return count;
    }
    void set_reading(bool on) override { reading = on; }
    void closed() override { is_closed = true; }

    // Everything written so far as frames; `skip` bytes of handshake are dropped first.
    std::vector<Frame> frames(std::size_t skip = 0) const {
        protocol::FrameReader reader;
        reader.append(std::span(written).subspan(skip));
        std::vector<Frame> out;
        while (auto view = reader.next()) {
            Frame frame{.id = view->id,
                        .flags = view->flags,
                        .raw = {view->frame.begin(), view->frame.end()}};
            if (const auto envelope = protocol::decode_envelope(view->body)) {
                frame.type = envelope->type_name;
                const auto payload = envelope->payload.span();
                frame.payload.assign(payload.begin(), payload.end());
            }
            out.push_back(std::move(frame));
        }
        EXPECT_EQ(reader.buffered(), 0u) << "a frame was cut";
        return out;
    }

    std::size_t capacity = std::numeric_limits<std::size_t>::max();
    std::vector<std::byte> written;
    bool reading = true;
    bool broken = false;
    bool is_closed = false;
};

class RecordingObserver : public RelayObserver {
  public:
    void on_ready(const protocol::Ready& value) override { ready = value; }
    void on_boot_failure(const std::string& reason) override { failures.push_back(reason); }
    void on_shutdown_requested() override { ++shutdowns; }
    void on_client_flow(std::uint32_t start, std::uint32_t end, bool paused) override {
        flow.push_back({start, end, paused});
    }
    struct Flow {
        std::uint32_t start, end;
        bool paused;
        bool operator==(const Flow&) const = default;
    };
    std::optional<protocol::Ready> ready;
    std::vector<std::string> failures;
    std::vector<Flow> flow;
    int shutdowns = 0;
};

class RecordingTap : public ExecTap {
  public:
    void output(std::uint64_t session, contract::LogSource source,
                std::span<const std::byte> bytes) override {
        lines.push_back(std::to_string(session) + " " + std::string(contract::to_string(source)) +
                        " " +
                        std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
    }
    void flush() override {}
    std::vector<std::string> lines;
};

template <class Message>
std::vector<std::byte> frame_of(std::uint32_t id, const Message& message) {
    protocol::ByteBuffer out;
    EXPECT_TRUE(protocol::append_frame(out, id, message));
    return out;
}

inline std::vector<std::byte> raw_frame(std::uint32_t id, std::uint8_t flags,
                                        std::size_t body_bytes) {
    std::vector<std::byte> out;
    const auto put = [&](std::uint32_t value) {
        for (int shift = 24; shift >= 0; shift -= 8)
            out.push_back(static_cast<std::byte>(value >> shift));
    };
    put(static_cast<std::uint32_t>(5 + body_bytes));
    put(id);
    out.push_back(static_cast<std::byte>(flags));
    out.resize(out.size() + body_bytes, std::byte{0xf6});
    return out;
}

class Harness {
  public:
    void from_guest(std::span<const std::byte> bytes) {
        while (!bytes.empty()) {
            const auto buffer = relay.guest_buffer();
            const std::size_t count = std::min(buffer.size(), bytes.size());
            std::memcpy(buffer.data(), bytes.data(), count);
            relay.guest_received(count);
            bytes = bytes.subspan(count);
        }
    }
    void from_client(unsigned slot, std::span<const std::byte> bytes) {
        while (!bytes.empty()) {
            const auto buffer = relay.client_buffer(slot);
            const std::size_t count = std::min(buffer.size(), bytes.size());
            std::memcpy(buffer.data(), bytes.data(), count);
            relay.client_received(slot, count);
            bytes = bytes.subspan(count);
        }
    }
    void boot() {
        from_guest(ready_frame());
        guest.written.clear();
    }
    static std::vector<std::byte> ready_frame() {
        return frame_of(0, protocol::Ready{.boot_time_ns = 11,
                                           .init_time_ns = 22,
                                           .ready_time_ns = 33,
                                           .agent_version = "0.6.18"});
    }
    static std::size_t handshake_bytes() { return 8 + ready_frame().size(); }
    // Lets the guest take `count` more bytes.
    void guest_takes(std::size_t count) {
        guest.capacity = count;
        relay.guest_writable();
    }

    MemoryPort guest;
    RecordingObserver observer;
    RecordingTap tap;
    Relay relay{guest, observer, &tap};
};

}  // namespace msb::runtime::testing
