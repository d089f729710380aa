// The envelope {"v": generation, "t": wire name, "p": payload} around every payload (spec/protocol.md section 3).
#include <algorithm>
#include <cstring>

#include "protocol/cbor.h"
#include "protocol/codec.h"
#include "protocol/payload_codec.h"

namespace msb::protocol {

namespace {

// Most payloads are 24 to 255 bytes; others are moved by a few bytes once their length is known.
constexpr std::size_t kGuessedPayloadHead = 2;

void write_u32(std::byte* to, std::uint32_t value) noexcept {
    for (int i = 3; i >= 0; --i, value >>= 8)
        to[i] = static_cast<std::byte>(value & 0xff);
}

// Writes into a fixed array of kMaxDataFrameHead bytes: heads of frames never touch the heap.
class HeadWriter {
  public:
    void byte(std::uint8_t value) noexcept { bytes_[size_++] = static_cast<std::byte>(value); }
    void head(CborMajor major, std::uint64_t argument) noexcept {
        size_ += write_cbor_head(bytes_ + size_, major, argument);
    }
    void text(std::string_view text) noexcept {
        head(CborMajor::kText, text.size());
        std::memcpy(bytes_ + size_, text.data(), text.size());
        size_ += text.size();
    }
    // Everything up to the value of "p". The frame length comes later.
    void frame(std::uint32_t id, const MessageInfo& info, std::uint8_t generation) noexcept {
        write_u32(bytes_ + kLengthPrefix, id);
        bytes_[kHeaderSize - 1] = static_cast<std::byte>(info.flags);
        size_ = kHeaderSize;
        head(CborMajor::kMap, 3);
        text("v");
        head(CborMajor::kUnsigned, generation);
        text("t");
        text(info.name);
        text("p");
    }
    void length(std::uint32_t value) noexcept { write_u32(bytes_, value); }
    void append_to(ByteBuffer& out) const { out.insert(out.end(), bytes_, bytes_ + size_); }
    std::size_t size() const noexcept { return size_; }

  private:
    // Header, map, keys v t p, generation, name with its head, head of p, map, key "data", head of the data.
    static_assert(kMaxDataFrameHead >= kHeaderSize + 1 + 3 * 2 + 2 + 2 + 30 + 5 + 1 + 5 + 5,
                  "the longest wire name fits");
    std::byte bytes_[kMaxDataFrameHead];
    std::size_t size_ = 0;
};

}  // namespace

namespace detail {

void reserve_more(ByteBuffer& out, std::size_t more) {
    if (out.capacity() - out.size() < more)
        out.reserve(std::max(2 * out.capacity(), out.size() + more));
}

OpenFrame begin_frame(ByteBuffer& out, std::uint32_t id, MessageType type,
                      std::uint8_t generation) {
    HeadWriter head;
    head.frame(id, message_info(type), generation);
    for (std::size_t i = 0; i < kGuessedPayloadHead; ++i)
        head.byte(0);
    const std::size_t start = out.size();
    reserve_more(out, 2 * kMaxDataFrameHead);
    head.append_to(out);
    return {.start = start, .payload = out.size()};
}

bool finish_frame(ByteBuffer& out, OpenFrame frame) {
    const std::size_t payload_size = out.size() - frame.payload;
    const std::size_t head_size = cbor_head_size(payload_size);
    const std::size_t head_start = frame.payload - kGuessedPayloadHead;
    const std::size_t length = head_start + head_size + payload_size - frame.start - kLengthPrefix;
    if (length > kMaxFrameLength) {
        out.resize(frame.start);
        return false;
    }
    if (head_size > kGuessedPayloadHead) {
        out.insert(out.begin() + static_cast<std::ptrdiff_t>(frame.payload),
                   head_size - kGuessedPayloadHead, std::byte{});
    } else if (head_size < kGuessedPayloadHead) {
        out.erase(out.begin() + static_cast<std::ptrdiff_t>(head_start + head_size),
                  out.begin() + static_cast<std::ptrdiff_t>(frame.payload));
    }
    write_cbor_head(out.data() + head_start, CborMajor::kBytes, payload_size);
    write_u32(out.data() + frame.start, static_cast<std::uint32_t>(length));
    return true;
}

}  // namespace detail

bool append_data_frame_head(ByteBuffer& out, std::uint32_t id, MessageType type,
                            std::size_t data_size, std::uint8_t generation) {
    if (data_size > kMaxFrameLength) return false;  // also keeps the sums below small
    constexpr std::string_view kKey = "data";
    const std::size_t payload_size = 1 + 1 + kKey.size() + cbor_head_size(data_size) + data_size;
    HeadWriter head;
    head.frame(id, message_info(type), generation);
    head.head(CborMajor::kBytes, payload_size);
    const std::size_t length = head.size() + payload_size - kLengthPrefix;
    if (length > kMaxFrameLength) return false;
    head.length(static_cast<std::uint32_t>(length));
    head.head(CborMajor::kMap, 1);
    head.text(kKey);
    head.head(CborMajor::kBytes, data_size);
    head.append_to(out);
    return true;
}

namespace {

// The envelope's fields with what is still unknown about them.
struct EnvelopeFields {
    std::optional<std::uint8_t> v;
    std::optional<std::string_view> t;
    std::optional<Bytes> p;
    std::string storage;
};

bool read_envelope_field(CborReader& reader, std::string_view key, EnvelopeFields& fields) {
    const bool duplicate =
        (key == "v" && fields.v) || (key == "t" && fields.t) || (key == "p" && fields.p);
    if (duplicate) return reader.fail("duplicate field `" + std::string(key) + "`");
    bool read = false;
    if (key == "v")
        read = reader.integer(fields.v.emplace());
    else if (key == "t")
        read = reader.text(fields.t.emplace(), fields.storage);
    else if (key == "p")
        read = reader.bytes(fields.p.emplace());
    else
        return reader.skip();
    return read || reader.fail_in(key);
}

bool read_envelope(CborReader& reader, EnvelopeFields& fields) {
    CborReader::Container map;
    if (!reader.enter_map(map)) return false;
    for (std::string_view key; reader.next_key(map, key);)
        if (!read_envelope_field(reader, key, fields)) return false;
    if (reader.failed()) return false;
    if (!fields.v) return reader.fail("missing field `v`");
    if (!fields.t) return reader.fail("missing field `t`");
    return fields.p || reader.fail("missing field `p`");
}

}  // namespace

std::expected<Envelope, DecodeError> decode_envelope(ByteView body) {
    CborReader reader(body);
    EnvelopeFields fields;
    if (!read_envelope(reader, fields)) return std::unexpected(DecodeError{reader.error()});
    Envelope envelope;
    envelope.generation = *fields.v;
    envelope.type_name = *fields.t;
    if (!fields.storage.empty()) {
        envelope.type_storage = std::make_shared<const std::string>(std::move(fields.storage));
        envelope.type_name = *envelope.type_storage;
    }
    envelope.type = message_type(envelope.type_name);
    envelope.payload = std::move(*fields.p);
    return envelope;
}

}  // namespace msb::protocol
