#include "image/gzip_source.h"

#include <isa-l/igzip_lib.h>

#include <algorithm>
#include <vector>

#include "base/error.h"

namespace msb::image {

namespace {

constexpr std::size_t kInputBuffer = 256 * 1024;
// What the inflater's bit reader takes ahead, at most: one 64-bit word.
constexpr std::size_t kHeadroom = 8;
constexpr std::size_t kMaxHeaderText = 64 * 1024;  // a file name or a comment

// Flags of a member's header (RFC 1952 section 2.3.1).
constexpr unsigned kHasHeaderCrc = 0x02;
constexpr unsigned kHasExtra = 0x04;
constexpr unsigned kHasName = 0x08;
constexpr unsigned kHasComment = 0x10;
constexpr unsigned kReservedFlags = 0xE0;

[[noreturn]] void damaged() {
    throw Error(ErrorCode::kImage, "damaged gzip data");
}

class GzipSource : public ByteSource {
  public:
    explicit GzipSource(ByteSource& source) : source_(source), input_(kHeadroom + kInputBuffer) {
        isal_inflate_init(state_.get());
    }

    std::size_t read(std::span<std::byte> out) override {
        auto space = static_cast<std::uint32_t>(std::min<std::size_t>(out.size(), UINT32_MAX));
        state_->next_out = reinterpret_cast<std::uint8_t*>(out.data());
        state_->avail_out = space;
        while (state_->avail_out == space && space > 0) {
            if (!in_member_ && !begin_member()) break;
            bool dry = state_->avail_in == 0 && !refill();  // it may still hold output
            if (isal_inflate(state_.get()) != ISAL_DECOMP_OK) damaged();
            if (state_->block_state == ISAL_BLOCK_FINISH) {
                end_member();
            } else if (dry && state_->avail_out == space) {
                throw Error(ErrorCode::kImage, "unexpected end of gzip data");
            }
        }
        return space - state_->avail_out;
    }

  private:
    // The header is read here: ISA-L's own reader of it (2.30) forgets what it has read when its input ends inside.
    bool begin_member() {
        bool more = !ended_ && (state_->avail_in > 0 || refill());
        if (!more || (members_ > 0 && *state_->next_in != 0x1F)) {
            if (members_ == 0) throw Error(ErrorCode::kImage, "unexpected end of gzip data");
            ended_ = true;
            return false;
        }
        if (next_byte() != 0x1F || next_byte() != 0x8B || next_byte() != 8) damaged();
        unsigned flags = next_byte();
        if ((flags & kReservedFlags) != 0) damaged();
        pass(6);  // time, extra flags, operating system
        if ((flags & kHasExtra) != 0) {
            unsigned length = next_byte();
            pass(length | next_byte() << 8);
        }
        if ((flags & kHasName) != 0) pass_text();
        if ((flags & kHasComment) != 0) pass_text();
        if ((flags & kHasHeaderCrc) != 0) pass(2);
        restart();
        ++members_;
        in_member_ = true;
        return true;
    }

    // Bytes that the bit reader took ahead belong to what follows. They may have come with the previous refill: the
    // headroom keeps them.
    void end_member() {
        auto ahead = static_cast<std::uint32_t>(std::max(state_->read_in_length, 0) / 8);
        if (ahead > kHeadroom) damaged();
        state_->next_in -= ahead;
        state_->avail_in += ahead;
        in_member_ = false;
    }

    // A fresh inflater over the same buffers: no header, but a trailer that is checked.
    void restart() {
        std::uint8_t* next_in = state_->next_in;
        std::uint32_t avail_in = state_->avail_in;
        std::uint8_t* next_out = state_->next_out;
        std::uint32_t avail_out = state_->avail_out;
        isal_inflate_init(state_.get());
        state_->crc_flag = ISAL_GZIP_NO_HDR_VER;
        state_->next_in = next_in;
        state_->avail_in = avail_in;
        state_->next_out = next_out;
        state_->avail_out = avail_out;
    }

    unsigned next_byte() {
        if (state_->avail_in == 0) need_input();
        --state_->avail_in;
        return *state_->next_in++;
    }
    void pass(std::size_t count) {
        for (std::size_t i = 0; i < count; ++i)
            next_byte();
    }
    void pass_text() {
        for (std::size_t i = 0; next_byte() != 0; ++i) {
            if (i == kMaxHeaderText) damaged();
        }
    }

    void need_input() {
        if (!refill()) throw Error(ErrorCode::kImage, "unexpected end of gzip data");
    }
    // All input is consumed: its last bytes move in front of the new ones.
    bool refill() {
        std::copy_n(input_.begin() + static_cast<std::ptrdiff_t>(filled_), kHeadroom,
                    input_.begin());
        std::span<std::byte> room = std::span(input_).subspan(kHeadroom);
        filled_ = source_.read(room);
        state_->next_in = reinterpret_cast<std::uint8_t*>(room.data());
        state_->avail_in = static_cast<std::uint32_t>(filled_);
        return filled_ > 0;
    }

    ByteSource& source_;
    std::vector<std::byte> input_;
    std::size_t filled_ = 0;  // bytes of the last refill
    std::unique_ptr<inflate_state> state_ = std::make_unique<inflate_state>();
    std::size_t members_ = 0;  // begun
    bool in_member_ = false;
    bool ended_ = false;
};

}  // namespace

std::unique_ptr<ByteSource> inflate_gzip(ByteSource& source) {
    return std::make_unique<GzipSource>(source);
}

}  // namespace msb::image
