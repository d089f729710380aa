// The subset of CBOR (RFC 8949) that the agent protocol speaks, as two streaming halves.
//
// CborWriter emits only the form of spec/protocol.md section 2.1: definite lengths, shortest heads, no tags, no floats.
// CborReader accepts what section 2.2 lists: any head width, indefinite lengths, tags (skipped), byte strings and
// integer arrays for each other. It is a cursor over a span: every length is checked against the bytes that are left
// before anything is allocated, unknown values are skipped without recursion, and nothing throws.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "protocol/bytes.h"

namespace msb::protocol {

inline constexpr std::size_t kMaxCborNesting = 256;     // spec/protocol.md section 2.2
inline constexpr std::size_t kMaxCborKeyLength = 4096;  // of a map key, same place

enum class CborMajor : std::uint8_t {
    kUnsigned = 0,
    kNegative = 1,
    kBytes = 2,
    kText = 3,
    kArray = 4,
    kMap = 5,
    kTag = 6,
    kSimple = 7,
};

// Number of bytes of the shortest head for this argument: 1, 2, 3, 5 or 9.
constexpr std::size_t cbor_head_size(std::uint64_t argument) noexcept {
    if (argument < 24) return 1;
    if (argument <= 0xff) return 2;
    if (argument <= 0xffff) return 3;
    return argument <= 0xffff'ffff ? 5 : 9;
}

// Writes the shortest head to `to`, which has room for it (at most 9 bytes); returns its size.
std::size_t write_cbor_head(std::byte* to, CborMajor major, std::uint64_t argument) noexcept;

// Whether the bytes are well-formed UTF-8 (no surrogates, no overlong forms), the rule for every CBOR text string.
bool is_valid_utf8(std::string_view text) noexcept;

class CborWriter {
  public:
    // `out` outlives the writer; everything is appended to it.
    explicit CborWriter(std::vector<std::byte>& out) noexcept : out_(out) {}

    void map(std::uint64_t pairs) { head(CborMajor::kMap, pairs); }
    void array(std::uint64_t items) { head(CborMajor::kArray, items); }
    void unsigned_integer(std::uint64_t value) { head(CborMajor::kUnsigned, value); }
    void signed_integer(std::int64_t value);
    // `value` should be UTF-8: readers refuse a text string that is not.
    void text(std::string_view value);
    void bytes(std::span<const std::byte> value);
    void boolean(bool value) {
        out_.push_back(std::byte{static_cast<unsigned char>(value ? 0xf5 : 0xf4)});
    }
    void null() { out_.push_back(std::byte{0xf6}); }
    void head(CborMajor major, std::uint64_t argument);

  private:
    std::vector<std::byte>& out_;
};

class CborReader {
  public:
    // `input` outlives the reader and every view it hands out. Bytes behind the first item are never looked at.
    explicit CborReader(std::span<const std::byte> input) noexcept : input_(input) {}

    // The first failure is kept; every call after it fails too. Callers return as soon as a call returns false.
    bool failed() const noexcept { return failed_; }
    const std::string& error() const noexcept { return error_; }
    // Records a failure and returns false.
    bool fail(std::string message);
    // Puts "`field`: " before the recorded error, so that a nested failure names its place.
    bool fail_in(std::string_view field);

    // Integers: floats, text and out-of-range values fail.
    template <class Int>
    bool integer(Int& value);
    bool boolean(bool& value);
    bool text(std::string& value);
    // A view into the input, or into `storage` when the text came in chunks.
    bool text(std::string_view& value, std::string& storage);
    // A byte string or an array of integers 0..255; a view of the input when it is one definite byte string.
    bool bytes(Bytes& value);
    // Consumes null or undefined and returns true, or consumes nothing but tags and returns false.
    bool take_null();

    // One open map or array. `remaining` counts entries still to come when the length is definite.
    struct Container {
        std::uint64_t remaining = 0;
        bool indefinite = false;
    };
    // Opens a map; then next_key() until it returns false: the map ended, or failed() is true.
    //   while (reader.next_key(map, key)) { read exactly one value }
    bool enter_map(Container& map);
    bool next_key(Container& map, std::string_view& key);
    // Opens an array; then next_item() until it returns false: the array ended, or failed() is true.
    bool enter_array(Container& array);
    bool next_item(Container& array);
    // The form of enums with content: a definite map with exactly one entry. leave_variant() follows the content.
    bool enter_variant(std::string_view& name);
    void leave_variant() noexcept { --depth_; }

    // Skips one item of any form: iterative, at most kMaxCborNesting containers deep counted from the outermost one.
    bool skip();

    // A place to read the same item again from.
    struct Mark {
        std::size_t position;
        std::size_t depth;
    };
    Mark mark() const noexcept { return {position_, depth_}; }
    void rewind(Mark mark) noexcept {
        position_ = mark.position;
        depth_ = mark.depth;
    }

  private:
    struct Head {
        CborMajor major;
        bool indefinite;   // info 31: an open container or string, or "break" for kSimple
        bool wide_simple;  // a float (info 25 to 27), for kSimple only
        std::uint64_t argument;
    };

    std::size_t left() const noexcept { return input_.size() - position_; }
    bool truncated() { return fail("unexpected end of input"); }
    bool raw_head(Head& head);
    bool value_head(Head& head);  // the next head that is not a tag
    bool enter();
    bool at_break();  // consumes a break
    bool check_count(std::uint64_t items);
    bool next_entry(Container& container);
    bool next_chunk(CborMajor major, std::span<const std::byte>& chunk, bool& ended);
    bool take(std::uint64_t size, std::span<const std::byte>& bytes);
    bool mismatch(const Head& head, std::string_view expected);
    bool integer_parts(std::uint64_t& magnitude, bool& negative);
    bool out_of_range(std::uint64_t magnitude, bool negative, std::string_view type);
    bool skip_string(CborMajor major, std::uint64_t size, bool indefinite);
    bool byte_array(Container array, Bytes& value);

    std::span<const std::byte> input_;
    std::size_t position_ = 0;
    std::size_t depth_ = 0;
    bool failed_ = false;
    std::string error_;
};

template <class Int>
bool CborReader::integer(Int& value) {
    constexpr std::array kNames = {std::string_view("u8"),  std::string_view("u16"),
                                   std::string_view("u32"), std::string_view("u64"),
                                   std::string_view("i8"),  std::string_view("i16"),
                                   std::string_view("i32"), std::string_view("i64")};
    constexpr std::size_t kWidth = sizeof(Int) == 1   ? 0
                                   : sizeof(Int) == 2 ? 1
                                   : sizeof(Int) == 4 ? 2
                                                      : 3;
    constexpr std::string_view kName = kNames[kWidth + (std::is_signed_v<Int> ? 4 : 0)];
    std::uint64_t magnitude = 0;
    bool negative = false;
    if (!integer_parts(magnitude, negative)) return false;
    // A negative CBOR integer is -1 - magnitude, so both signs share one bound.
    constexpr auto kMax = static_cast<std::uint64_t>(std::numeric_limits<Int>::max());
    if (magnitude > kMax || (negative && !std::is_signed_v<Int>))
        return out_of_range(magnitude, negative, kName);
    value = negative ? static_cast<Int>(-1 - static_cast<std::int64_t>(magnitude))
                     : static_cast<Int>(magnitude);
    return true;
}

}  // namespace msb::protocol
