#include <algorithm>
#include <cstring>

#include "protocol/codec.h"

namespace msb::protocol {

namespace {

constexpr std::size_t kFirstBuffer = 64 * 1024;
// A buffer above this size is halved when kWasteCheck refills in a row used less than a quarter of it.
constexpr std::size_t kRetainedBuffer = 256 * 1024;
constexpr unsigned kWasteCheck = 32;

std::uint32_t read_u32(const std::byte* from) noexcept {
    std::uint32_t value = 0;
    for (int i = 0; i < 4; ++i)
        value = value << 8 | std::to_integer<std::uint32_t>(from[i]);
    return value;
}

}  // namespace

void FrameReader::append(ByteView bytes) {
    if (bytes.empty()) return;
    std::memcpy(writable(bytes.size()).data(), bytes.data(), bytes.size());
    commit(bytes.size());
}

std::span<std::byte> FrameReader::writable(std::size_t at_least) {
    if (begin_ == end_) begin_ = end_ = 0;
    if (capacity_ - end_ < at_least || begin_ == end_) make_room(at_least);
    return {buffer_.get() + end_, capacity_ - end_};
}

// Moves what is buffered to the front of the same or of a larger buffer. The same one serves only when no more bytes are
// moved than were consumed since the last move, or than there will be room for before the next one: that bounds all
// moving by the length of the stream.
void FrameReader::make_room(std::size_t at_least) {
    const std::size_t held = buffered();
    const std::size_t needed = held + at_least;
    peak_ = std::max(peak_, needed);
    std::size_t capacity = std::max(capacity_, kFirstBuffer);
    if (++refills_ >= kWasteCheck) {
        if (capacity > kRetainedBuffer && peak_ <= capacity / 4) capacity /= 2;
        refills_ = 0;
        peak_ = needed;
    }
    while (capacity < needed || (begin_ != 0 && held > begin_ && capacity - held < held))
        capacity *= 2;
    if (capacity == capacity_) {
        if (held != 0 && begin_ != 0) std::memmove(buffer_.get(), buffer_.get() + begin_, held);
    } else {
        auto buffer = std::make_unique_for_overwrite<std::byte[]>(capacity);
        if (held != 0) std::memcpy(buffer.get(), buffer_.get() + begin_, held);
        buffer_ = std::move(buffer);
        capacity_ = capacity;
    }
    begin_ = 0;
    end_ = held;
}

void FrameReader::commit(std::size_t n) {
    end_ += std::min(n, capacity_ - end_);
    peak_ = std::max(peak_, buffered());
}

std::optional<FrameView> FrameReader::next() {
    if (error_ || buffered() < kLengthPrefix) return std::nullopt;
    const std::byte* frame = buffer_.get() + begin_;
    const std::uint32_t length = read_u32(frame);
    if (length > kMaxFrameLength) {
        error_ = "frame too large: " + std::to_string(length) + " bytes (max " +
                 std::to_string(kMaxFrameLength) + ")";
        return std::nullopt;
    }
    if (buffered() - kLengthPrefix < length) return std::nullopt;
    if (length < kMinFrameLength) {
        error_ = "frame payload too short: " + std::to_string(length) + " bytes (minimum " +
                 std::to_string(kMinFrameLength) + ")";
        return std::nullopt;
    }
    const ByteView whole(frame, kLengthPrefix + length);
    begin_ += whole.size();
    return FrameView{.id = read_u32(frame + 4),
                     .flags = std::to_integer<std::uint8_t>(frame[8]),
                     .body = whole.subspan(kHeaderSize),
                     .frame = whole};
}

bool FrameReader::skip_short_frame() noexcept {
    if (!error_ || buffered() < kLengthPrefix) return false;
    const std::uint32_t length = read_u32(buffer_.get() + begin_);
    if (length >= kMinFrameLength || buffered() - kLengthPrefix < length) return false;
    begin_ += kLengthPrefix + length;
    error_.reset();
    return true;
}

void FrameReader::clear() noexcept {
    begin_ = end_ = 0;
    error_.reset();
}

}  // namespace msb::protocol
