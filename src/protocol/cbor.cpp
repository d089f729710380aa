#include "protocol/cbor.h"

#include <cstring>

namespace msb::protocol {

namespace {

// Arguments of major type 7 (RFC 8949 section 3.3).
constexpr std::uint64_t kSimpleFalse = 20;
constexpr std::uint64_t kSimpleTrue = 21;
constexpr std::uint64_t kSimpleNull = 22;
constexpr std::uint64_t kSimpleUndefined = 23;

std::string_view as_text(std::span<const std::byte> bytes) noexcept {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Bytes of one multi-byte UTF-8 sequence at the start of `text`, or 0 when it is malformed (Unicode 15, table 3-7).
std::size_t utf8_sequence(const unsigned char* text, std::size_t size) noexcept {
    const unsigned char lead = text[0];
    std::size_t length = 0;
    unsigned char low = 0x80, high = 0xbf;  // range of the second byte
    if (lead >= 0xc2 && lead <= 0xdf) {
        length = 2;
    } else if (lead >= 0xe0 && lead <= 0xef) {
        length = 3;
        if (lead == 0xe0) low = 0xa0;   // overlong
        if (lead == 0xed) high = 0x9f;  // surrogates
    } else if (lead >= 0xf0 && lead <= 0xf4) {
        length = 4;
        if (lead == 0xf0) low = 0x90;   // overlong
        if (lead == 0xf4) high = 0x8f;  // above U+10FFFF
    }
    if (length == 0 || length > size || text[1] < low || text[1] > high) return 0;
    for (std::size_t i = 2; i < length; ++i)
        if ((text[i] & 0xc0) != 0x80) return 0;
    return length;
}

}  // namespace

std::size_t write_cbor_head(std::byte* to, CborMajor major, std::uint64_t argument) noexcept {
    const auto type = static_cast<unsigned>(major) << 5;
    const std::size_t size = cbor_head_size(argument);
    if (size == 1) {
        to[0] = static_cast<std::byte>(type | argument);
        return 1;
    }
    const unsigned info = size == 2 ? 24 : size == 3 ? 25 : size == 5 ? 26 : 27;
    to[0] = static_cast<std::byte>(type | info);
    for (std::size_t i = size - 1; i > 0; --i, argument >>= 8)
        to[i] = static_cast<std::byte>(argument & 0xff);
    return size;
}

bool is_valid_utf8(std::string_view text) noexcept {
    const auto* bytes = reinterpret_cast<const unsigned char*>(text.data());
    const std::size_t size = text.size();
    std::size_t i = 0;
    while (i < size) {
        std::uint64_t word;
        if (size - i >= sizeof word) {  // eight ASCII bytes at a time
            std::memcpy(&word, bytes + i, sizeof word);
            if ((word & 0x8080'8080'8080'8080U) == 0) {
                i += sizeof word;
                continue;
            }
        }
        if (bytes[i] < 0x80) {
            ++i;
            continue;
        }
        const std::size_t length = utf8_sequence(bytes + i, size - i);
        if (length == 0) return false;
        i += length;
    }
    return true;
}

// --- writer -----------------------------------------------------------------------------------------------------

void CborWriter::head(CborMajor major, std::uint64_t argument) {
    std::byte head[9];
    const std::size_t size = write_cbor_head(head, major, argument);
    out_.insert(out_.end(), head, head + size);
}

void CborWriter::signed_integer(std::int64_t value) {
    if (value < 0)
        head(CborMajor::kNegative, static_cast<std::uint64_t>(-1 - value));
    else
        head(CborMajor::kUnsigned, static_cast<std::uint64_t>(value));
}

void CborWriter::text(std::string_view value) {
    head(CborMajor::kText, value.size());
    const auto bytes = std::as_bytes(std::span(value.data(), value.size()));
    out_.insert(out_.end(), bytes.begin(), bytes.end());
}

void CborWriter::bytes(std::span<const std::byte> value) {
    head(CborMajor::kBytes, value.size());
    out_.insert(out_.end(), value.begin(), value.end());
}

// --- reader: heads ----------------------------------------------------------------------------------------------

bool CborReader::fail(std::string message) {
    if (!failed_) error_ = std::move(message);
    failed_ = true;
    return false;
}

bool CborReader::fail_in(std::string_view field) {
    std::string placed = "`";
    placed.append(field).append("`: ").append(error_);
    error_ = std::move(placed);
    return false;
}

bool CborReader::raw_head(Head& head) {
    if (failed_) return false;
    if (left() == 0) return truncated();
    const auto first = std::to_integer<unsigned>(input_[position_]);
    const unsigned info = first & 0x1f;
    head.major = static_cast<CborMajor>(first >> 5);
    head.indefinite = info == 31;
    head.wide_simple = head.major == CborMajor::kSimple && info >= 25 && info <= 27;
    head.argument = info;
    ++position_;
    if (info < 24) return true;
    if (info == 31) {
        // Indefinite integers and tags do not exist.
        if (head.major <= CborMajor::kNegative || head.major == CborMajor::kTag)
            return fail("malformed CBOR head");
        return true;
    }
    if (info > 27) return fail("malformed CBOR head");
    const std::size_t width = std::size_t{1} << (info - 24);
    if (left() < width) return truncated();
    head.argument = 0;
    for (std::size_t i = 0; i < width; ++i)
        head.argument = head.argument << 8 | std::to_integer<std::uint64_t>(input_[position_ + i]);
    position_ += width;
    return true;
}

bool CborReader::value_head(Head& head) {
    do {
        if (!raw_head(head)) return false;
    } while (head.major == CborMajor::kTag);
    return true;
}

bool CborReader::mismatch(const Head& head, std::string_view expected) {
    std::string_view found = "a simple value";
    switch (head.major) {
        case CborMajor::kUnsigned:
        case CborMajor::kNegative:
            found = "an integer";
            break;
        case CborMajor::kBytes:
            found = "bytes";
            break;
        case CborMajor::kText:
            found = "text";
            break;
        case CborMajor::kArray:
            found = "an array";
            break;
        case CborMajor::kMap:
            found = "a map";
            break;
        case CborMajor::kTag:
            found = "a tag";
            break;
        case CborMajor::kSimple:
            if (head.indefinite)
                found = "a break";
            else if (head.wide_simple)
                found = "a float";
            else if (head.argument == kSimpleFalse || head.argument == kSimpleTrue)
                found = "a bool";
            else if (head.argument == kSimpleNull || head.argument == kSimpleUndefined)
                found = "null";
            break;
    }
    return fail("expected " + std::string(expected) + ", found " + std::string(found));
}

bool CborReader::take(std::uint64_t size, std::span<const std::byte>& bytes) {
    if (size > left()) return truncated();
    bytes = input_.subspan(position_, static_cast<std::size_t>(size));
    position_ += static_cast<std::size_t>(size);
    return true;
}

// --- reader: scalars --------------------------------------------------------------------------------------------

bool CborReader::integer_parts(std::uint64_t& magnitude, bool& negative) {
    Head head;
    if (!value_head(head)) return false;
    if (head.major > CborMajor::kNegative) return mismatch(head, "an integer");
    magnitude = head.argument;
    negative = head.major == CborMajor::kNegative;
    return true;
}

bool CborReader::out_of_range(std::uint64_t magnitude, bool negative, std::string_view type) {
    std::string text = "integer ";
    if (negative && magnitude == std::numeric_limits<std::uint64_t>::max())
        text.append("-1 - ").append(std::to_string(magnitude));  // its absolute value needs 65 bits
    else
        text.append(negative ? "-" : "").append(std::to_string(magnitude + (negative ? 1 : 0)));
    return fail(text.append(" is out of range for ").append(type));
}

bool CborReader::boolean(bool& value) {
    Head head;
    if (!value_head(head)) return false;
    const bool known = head.major == CborMajor::kSimple && !head.indefinite && !head.wide_simple &&
                       (head.argument == kSimpleFalse || head.argument == kSimpleTrue);
    if (!known) return mismatch(head, "a bool");
    value = head.argument == kSimpleTrue;
    return true;
}

bool CborReader::take_null() {
    Head head;
    Mark before = mark();
    do {
        before = mark();
        if (!raw_head(head)) return false;
    } while (head.major == CborMajor::kTag);
    const bool null = head.major == CborMajor::kSimple && !head.indefinite && !head.wide_simple &&
                      (head.argument == kSimpleNull || head.argument == kSimpleUndefined);
    if (!null) rewind(before);
    return null;
}

// --- reader: strings --------------------------------------------------------------------------------------------

// One definite chunk of an indefinite string, or its break.
bool CborReader::next_chunk(CborMajor major, std::span<const std::byte>& chunk, bool& ended) {
    Head head;
    if (!raw_head(head)) return false;
    ended = head.major == CborMajor::kSimple && head.indefinite;
    if (ended) return true;
    if (head.major != major || head.indefinite)
        return fail("malformed chunk of an indefinite-length string");
    return take(head.argument, chunk);
}

bool CborReader::text(std::string_view& value, std::string& storage) {
    Head head;
    if (!value_head(head)) return false;
    if (head.major != CborMajor::kText) return mismatch(head, "text");
    std::span<const std::byte> chunk;
    if (!head.indefinite) {
        if (!take(head.argument, chunk)) return false;
        value = as_text(chunk);
        return is_valid_utf8(value) || fail("text is not valid UTF-8");
    }
    storage.clear();
    for (bool ended = false;;) {
        if (!next_chunk(CborMajor::kText, chunk, ended)) return false;
        if (ended) break;
        if (!is_valid_utf8(as_text(chunk))) return fail("text is not valid UTF-8");
        storage.append(as_text(chunk));
    }
    value = storage;
    return true;
}

bool CborReader::text(std::string& value) {
    std::string storage;
    std::string_view view;
    if (!text(view, storage)) return false;
    if (view.data() == storage.data())
        value = std::move(storage);
    else
        value.assign(view);
    return true;
}

bool CborReader::bytes(Bytes& value) {
    Head head;
    if (!value_head(head)) return false;
    if (head.major == CborMajor::kArray) {
        const Container array{head.argument, head.indefinite};
        return enter() && (array.indefinite || check_count(array.remaining)) &&
               byte_array(array, value);
    }
    if (head.major != CborMajor::kBytes) return mismatch(head, "bytes");
    std::span<const std::byte> chunk;
    if (!head.indefinite) {
        if (!take(head.argument, chunk)) return false;
        value = Bytes::view(chunk);
        return true;
    }
    std::vector<std::byte> joined;
    for (bool ended = false;;) {
        if (!next_chunk(CborMajor::kBytes, chunk, ended)) return false;
        if (ended) break;
        joined.insert(joined.end(), chunk.begin(), chunk.end());
    }
    value = Bytes::owned(std::move(joined));
    return true;
}

bool CborReader::byte_array(Container array, Bytes& value) {
    std::vector<std::byte> items;
    while (next_item(array)) {
        std::uint8_t item = 0;
        if (!integer(item)) return false;
        items.push_back(std::byte{item});
    }
    if (failed_) return false;
    value = Bytes::owned(std::move(items));
    return true;
}

// --- reader: containers -----------------------------------------------------------------------------------------

bool CborReader::enter() {
    if (depth_ == kMaxCborNesting) return fail("nested too deeply");
    ++depth_;
    return true;
}

// Every item needs at least one byte, so a larger count can only end in truncation: say so before looping over it.
bool CborReader::check_count(std::uint64_t items) {
    return items <= left() || truncated();
}

bool CborReader::at_break() {
    if (left() == 0 || input_[position_] != std::byte{0xff}) return false;
    ++position_;
    return true;
}

bool CborReader::next_entry(Container& container) {
    if (failed_) return false;
    const bool ended = container.indefinite ? at_break() : container.remaining == 0;
    if (ended) {
        --depth_;
        return false;
    }
    if (!container.indefinite) --container.remaining;
    return true;
}

bool CborReader::enter_map(Container& map) {
    Head head;
    if (!value_head(head)) return false;
    if (head.major != CborMajor::kMap) return mismatch(head, "a map");
    map = {head.argument, head.indefinite};
    return enter() && (map.indefinite || check_count(map.remaining));
}

bool CborReader::next_key(Container& map, std::string_view& key) {
    if (!next_entry(map)) return false;
    Head head;
    if (!value_head(head)) return false;
    const bool text = head.major == CborMajor::kText;
    if ((!text && head.major != CborMajor::kBytes) || head.indefinite)
        return fail("map key is not definite-length text");
    if (head.argument > kMaxCborKeyLength) return fail("map key is too long");
    std::span<const std::byte> bytes;
    if (!take(head.argument, bytes)) return false;
    key = as_text(bytes);
    return !text || is_valid_utf8(key) || fail("map key is not valid UTF-8");
}

bool CborReader::enter_array(Container& array) {
    Head head;
    if (!value_head(head)) return false;
    if (head.major != CborMajor::kArray) return mismatch(head, "an array");
    array = {head.argument, head.indefinite};
    return enter() && (array.indefinite || check_count(array.remaining));
}

bool CborReader::next_item(Container& array) {
    return next_entry(array);
}

bool CborReader::enter_variant(std::string_view& name) {
    Container map;
    if (!enter_map(map)) return false;
    if (map.indefinite || map.remaining != 1) return fail("expected a map with exactly one entry");
    return next_key(map, name);
}

bool CborReader::skip_string(CborMajor major, std::uint64_t size, bool indefinite) {
    std::span<const std::byte> chunk;
    if (!indefinite) return take(size, chunk);
    for (bool ended = false; !ended;)
        if (!next_chunk(major, chunk, ended)) return false;
    return true;
}

bool CborReader::skip() {
    // The containers that are open around the cursor. `items` counts down what a definite one still needs (keys and
    // values each count), or up what an indefinite one has had.
    struct Open {
        std::uint64_t items;
        bool indefinite;
        bool map;
    };
    std::array<Open, kMaxCborNesting> open;
    std::size_t depth = 0;
    for (;;) {
        if (at_break()) {
            const bool ends = depth > 0 && open[depth - 1].indefinite &&
                              !(open[depth - 1].map && open[depth - 1].items % 2 != 0);
            if (!ends) return fail("unexpected break");
            --depth;
        } else {
            Head head;
            if (!value_head(head)) return false;
            if (head.major == CborMajor::kArray || head.major == CborMajor::kMap) {
                if (depth_ + depth == kMaxCborNesting) return fail("nested too deeply");
                const bool map = head.major == CborMajor::kMap;
                const std::uint64_t per_entry = map ? 2 : 1;
                if (!head.indefinite && head.argument > left() / per_entry) return truncated();
                if (head.indefinite || head.argument != 0) {
                    open[depth++] = {head.indefinite ? 0 : head.argument * per_entry,
                                     head.indefinite, map};
                    continue;
                }
            } else if (head.major == CborMajor::kBytes || head.major == CborMajor::kText) {
                if (!skip_string(head.major, head.argument, head.indefinite)) return false;
            } else if (head.major == CborMajor::kSimple && head.indefinite) {
                return fail("unexpected break");  // behind a tag
            }
        }
        // One item is complete: so are the definite containers it was the last item of.
        while (depth > 0 && !open[depth - 1].indefinite && --open[depth - 1].items == 0)
            --depth;
        if (depth == 0) return true;
        if (open[depth - 1].indefinite) ++open[depth - 1].items;
    }
}

}  // namespace msb::protocol
