// Frames and envelopes of the agent protocol (spec/protocol.md sections 1 to 3).
//
//   offset 0  u32 BE  len    = number of bytes after this field = 5 + body length
//   offset 4  u32 BE  id     correlation id
//   offset 8  u8      flags  bit0 TERMINAL, bit1 SESSION_START, bit2 SHUTDOWN
//   offset 9  ...     body   one CBOR map {"v": generation, "t": wire name, "p": byte string with the payload}
//
// Nothing here throws on hostile input: decoders return std::expected. Nothing here depends on anything but the
// standard library: the guest agent links it too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/messages.h"

namespace msb::protocol {

inline constexpr std::uint8_t kGeneration = 7;
inline constexpr std::uint32_t kMaxFrameLength = 4'194'304;  // of the `len` field
inline constexpr std::uint32_t kMinFrameLength = 5;          // id and flags
inline constexpr std::size_t kLengthPrefix = 4;
inline constexpr std::size_t kHeaderSize = 9;  // length, id, flags

inline constexpr std::uint8_t kFlagTerminal = 1;
inline constexpr std::uint8_t kFlagSessionStart = 2;
inline constexpr std::uint8_t kFlagShutdown = 4;

inline constexpr std::uint32_t kMaxClients = 128;
inline constexpr std::uint32_t kIdRangeStep = 33'554'431;  // 4294967295 / 128

// What the table of spec/protocol.md section 4 says of one type.
struct MessageInfo {
    std::string_view name;    // wire name, "core.ping"
    std::uint8_t generation;  // first generation that knows it
    std::uint8_t flags;       // the only flags value the guest accepts for it
};
const MessageInfo& message_info(MessageType type) noexcept;
std::optional<MessageType> message_type(std::string_view wire_name) noexcept;

// Text names of the enums on the wire ("invalid_flags", "not_found", ...).
std::string_view to_string(ErrorKind kind) noexcept;
std::string_view to_string(ExecFailedKind kind) noexcept;
std::string_view to_string(FsEntryKind kind) noexcept;
std::string_view to_string(SecurityProfile profile) noexcept;

using ByteBuffer = std::vector<std::byte>;
using ByteView = std::span<const std::byte>;

struct DecodeError {
    std::string message;  // human text, e.g. "missing field `cmd`"
};

// --- encoding ---------------------------------------------------------------------------------------------------

// Appends one whole frame. `M` is any message struct with kType; flags come from the message table. Throws nothing;
// returns false (and appends nothing) when the frame would exceed kMaxFrameLength. Text fields should be UTF-8: every
// reader refuses a payload with text that is not.
// Explicitly instantiated in payload_*.cpp for every message of messages.h.
template <class M>
[[nodiscard]] bool append_frame(ByteBuffer& out, std::uint32_t id, const M& message,
                                std::uint8_t generation = kGeneration);

// The header and envelope of a frame whose payload ends in `data_size` bytes that the caller writes after it (writev):
// for DataMessage types, so that bulk bytes are never copied into a frame buffer. At most kMaxDataFrameHead bytes.
inline constexpr std::size_t kMaxDataFrameHead = 72;
[[nodiscard]] bool append_data_frame_head(ByteBuffer& out, std::uint32_t id, MessageType type,
                                          std::size_t data_size,
                                          std::uint8_t generation = kGeneration);

// Only the payload (the content of "p").
template <class M>
void append_payload(ByteBuffer& out, const M& message);

// --- decoding ---------------------------------------------------------------------------------------------------

struct FrameView {
    std::uint32_t id = 0;
    std::uint8_t flags = 0;
    ByteView body;   // envelope
    ByteView frame;  // whole frame with its length prefix
};

// Cuts a byte stream into frames. Views stay valid until the next call of append(), writable() or clear().
//   while (auto frame = reader.next()) ...        // nullopt: more bytes needed, or error() set
// Bytes are copied once into one contiguous buffer and moved at most once more (amortised), however small the frames
// and however the stream is split. The buffer holds at most one incomplete frame more than the caller has appended
// and gives memory back after large frames stop coming. Not thread-safe; movable.
class FrameReader {
  public:
    // Copies bytes in.
    void append(ByteView bytes);
    // Or: space to read(2) into directly (at least that many bytes, often more), then commit(n <= size).
    std::span<std::byte> writable(std::size_t at_least);
    void commit(std::size_t n);

    std::optional<FrameView> next();
    // "frame too large: N bytes (max 4194304)" or "frame payload too short: N bytes (minimum 5)"; sticky.
    const std::optional<std::string>& error() const noexcept { return error_; }
    // Bytes not yet returned by next(). Non-zero at end of stream: it ended inside a frame.
    std::size_t buffered() const noexcept { return end_ - begin_; }
    // Forgets bytes and error.
    void clear() noexcept;
    // After "frame payload too short": drops that frame only, clears the error and returns true. After "frame too
    // large", where no next frame can be found: false, nothing changes (spec/protocol.md section 7.4).
    bool skip_short_frame() noexcept;

  private:
    void make_room(std::size_t at_least);

    std::unique_ptr<std::byte[]> buffer_;
    std::size_t capacity_ = 0;
    std::size_t begin_ = 0;  // of the next frame
    std::size_t end_ = 0;    // of the received bytes
    std::size_t peak_ = 0;   // most bytes held at once since the last check for waste
    unsigned refills_ = 0;   // buffers started since then
    std::optional<std::string> error_;
};

struct Envelope {
    std::uint8_t generation = 0;  // v
    std::string_view
        type_name;  // t, view into the body, or into type_storage when it came in chunks
    std::optional<MessageType> type;  // nullopt: a type this build does not know
    Bytes payload;                    // p, view into the body, or owned when it came in chunks
    std::shared_ptr<const std::string> type_storage;  // shared, so that copies keep type_name valid
};
std::expected<Envelope, DecodeError> decode_envelope(ByteView body);

// Explicitly instantiated for every message. Byte fields may be views into `payload`.
template <class M>
std::expected<M, DecodeError> decode_payload(ByteView payload);

}  // namespace msb::protocol
