#include "image/tar_reader.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/error.h"
#include "base/text.h"

namespace msb::image {

namespace {

constexpr std::size_t kBlock = 512;
constexpr std::uint64_t kMaxExtendedHeader = 1 << 20;  // a pax header or GNU long name
constexpr int kMaxExtendedHeaders = 64;                // in front of one member
constexpr std::size_t kMaxSparseSegments = 1 << 16;
constexpr std::uint64_t kMaxSize = std::uint64_t{1} << 62;
constexpr std::size_t kMaxXattrsPerEntry = 256;

// Field offsets of POSIX ustar and of GNU's old sparse format (GNU tar, src/tar.h).
struct Field {
    std::size_t offset;
    std::size_t length;
};
constexpr Field kName{0, 100};
constexpr Field kMode{100, 8};
constexpr Field kUid{108, 8};
constexpr Field kGid{116, 8};
constexpr Field kSize{124, 12};
constexpr Field kMtime{136, 12};
constexpr Field kChecksum{148, 8};
constexpr std::size_t kType = 156;
constexpr Field kLinkName{157, 100};
constexpr Field kMagic{257, 6};
constexpr Field kMajor{329, 8};
constexpr Field kMinor{337, 8};
constexpr Field kPrefix{345, 155};
constexpr std::size_t kOldSparseMap = 386;
constexpr std::size_t kOldSparseEntries = 4;
constexpr std::size_t kOldSparseExtended = 482;
constexpr Field kOldSparseRealSize{483, 12};
constexpr std::size_t kExtensionEntries = 21;
constexpr std::size_t kExtensionExtended = 504;

using Header = std::span<const std::byte, kBlock>;

[[noreturn]] void fail(const std::string& what) {
    throw Error(ErrorCode::kImage, what);
}

std::string_view text(Header header, Field field) {
    std::string_view raw(reinterpret_cast<const char*>(header.data()) + field.offset, field.length);
    return raw.substr(0, raw.find('\0'));
}

// Octal text, or GNU's base-256 when the top bit is set (two's complement, so negative times exist).
std::int64_t number(std::string_view raw) {
    if (!raw.empty() && (raw.front() & 0x80) != 0) {
        std::uint64_t value = (raw.front() & 0x40) != 0 ? ~std::uint64_t{0} : 0;
        value = value << 6 | (static_cast<unsigned char>(raw.front()) & 0x3f);
        for (char c : raw.substr(1))
            value = value << 8 | static_cast<unsigned char>(c);
        return static_cast<std::int64_t>(value);
    }
    std::uint64_t value = 0;
    std::size_t at = 0;
    while (at < raw.size() && raw[at] == ' ')
        ++at;
    for (; at < raw.size() && raw[at] != '\0' && raw[at] != ' '; ++at) {
        if (raw[at] < '0' || raw[at] > '7') fail("numeric field was not a number: " + quoted(raw));
        value = value << 3 | static_cast<std::uint64_t>(raw[at] - '0');
    }
    return static_cast<std::int64_t>(value);
}

std::int64_t number(Header header, Field field) {
    return number({reinterpret_cast<const char*>(header.data()) + field.offset, field.length});
}

std::uint64_t checked_size(std::int64_t value) {
    if (value < 0 || static_cast<std::uint64_t>(value) > kMaxSize)
        fail("entry size is out of range");
    return static_cast<std::uint64_t>(value);
}

bool is_zero(Header header) {
    return std::ranges::all_of(header, [](std::byte b) { return b == std::byte{0}; });
}

// Both the unsigned sum of POSIX and the signed one some old writers made.
void verify_checksum(Header header) {
    std::int64_t unsigned_sum = 0;
    std::int64_t signed_sum = 0;
    for (std::size_t i = 0; i < kBlock; ++i) {
        bool inside = i >= kChecksum.offset && i < kChecksum.offset + kChecksum.length;
        auto byte =
            inside ? static_cast<unsigned char>(' ') : static_cast<unsigned char>(header[i]);
        unsigned_sum += byte;
        signed_sum += static_cast<signed char>(byte);
    }
    std::int64_t stored = number(header, kChecksum);
    if (stored != unsigned_sum && stored != signed_sum) fail("archive header checksum mismatch");
}

template <class Int>
Int pax_number(std::string_view value) {
    // Times may carry a fraction; whole seconds are kept.
    auto parsed = parse_integer<Int>(value.substr(0, value.find('.')));
    if (!parsed) fail("invalid number in a pax header: " + quoted(value.substr(0, 64)));
    return *parsed;
}

std::string whole_path(Header header) {
    std::string path(text(header, kName));
    bool ustar =
        text(header, kMagic) == "ustar";  // GNU's magic is "ustar  ": it has no prefix field
    std::string_view prefix = text(header, kPrefix);
    if (ustar && !prefix.empty()) return std::string(prefix) + "/" + path;
    return path;
}

}  // namespace

struct TarReader::Extended {
    std::optional<std::string> path;
    std::optional<std::string> link_target;
    std::optional<std::uint64_t> size;
    std::optional<std::uint32_t> uid;
    std::optional<std::uint32_t> gid;
    std::vector<Xattr> xattrs;
    // GNU.sparse.*: 0.0 gives offset/numbytes pairs, 0.1 one "map", 1.0 a map in front of the data.
    bool sparse = false;
    std::uint32_t sparse_major = 0;
    std::optional<std::uint64_t> real_size;
    std::vector<std::uint64_t> map;
};

bool TarReader::read_block(std::span<std::byte, kBlock> block, bool at_boundary) {
    std::size_t n = read_fully(source_, block);
    if (n == kBlock) return true;
    if (n == 0 && at_boundary) return false;
    fail("unexpected EOF while reading archive entry data");
}

void TarReader::skip(std::uint64_t count) {
    if (source_.skip(count) != count) fail("unexpected EOF while reading archive entry data");
}

std::size_t TarReader::read_data(std::span<std::byte> out) {
    if (data_left_ == 0) return 0;
    std::size_t want = static_cast<std::size_t>(std::min<std::uint64_t>(out.size(), data_left_));
    std::size_t n = source_.read(out.first(want));
    if (n == 0) fail("unexpected EOF while reading archive entry data");
    data_left_ -= n;
    return n;
}

std::string TarReader::read_extended(std::uint64_t size) {
    if (size > kMaxExtendedHeader)
        fail("extended header of " + std::to_string(size) + " bytes; max is " +
             std::to_string(kMaxExtendedHeader));
    std::string content(static_cast<std::size_t>(size), '\0');
    if (read_fully(source_, std::as_writable_bytes(std::span(content))) != content.size())
        fail("unexpected EOF while reading archive entry data");
    skip((kBlock - size % kBlock) % kBlock);
    return content;
}

// Records "LENGTH key=value\n", where LENGTH counts the whole record.
void TarReader::apply_pax(Extended& extended, std::string_view records) {
    constexpr std::string_view kXattrKey = "SCHILY.xattr.";
    while (!records.empty()) {
        std::size_t space = records.find(' ');
        auto length = parse_integer<std::uint64_t>(records.substr(0, space));
        if (space == std::string_view::npos || !length || *length <= space + 1 ||
            *length > records.size() || records[*length - 1] != '\n')
            fail("malformed pax extension");
        std::string_view record = records.substr(space + 1, *length - space - 2);
        records.remove_prefix(*length);
        std::size_t equals = record.find('=');
        if (equals == std::string_view::npos) fail("malformed pax extension");
        std::string_view key = record.substr(0, equals);
        std::string_view value = record.substr(equals + 1);

        if (key == "path") {
            if (!extended.sparse || !extended.path) extended.path = value;
        } else if (key == "linkpath") {
            extended.link_target = value;
        } else if (key == "size") {
            extended.size = checked_size(pax_number<std::int64_t>(value));
        } else if (key == "uid") {
            extended.uid = pax_number<std::uint32_t>(value);
        } else if (key == "gid") {
            extended.gid = pax_number<std::uint32_t>(value);
        } else if (key.starts_with(kXattrKey) && value.empty()) {
            // An empty value takes a record back (POSIX pax), so attributes without value cannot be expressed.
            std::erase_if(extended.xattrs, [&](const Xattr& xattr) {
                return xattr.name == key.substr(kXattrKey.size());
            });
        } else if (key.starts_with(kXattrKey)) {
            if (extended.xattrs.size() >= kMaxXattrsPerEntry) fail("too many extended attributes");
            extended.xattrs.push_back(
                {std::string(key.substr(kXattrKey.size())), std::string(value)});
        } else if (key == "GNU.sparse.major") {
            extended.sparse = true;
            extended.sparse_major = pax_number<std::uint32_t>(value);
        } else if (key == "GNU.sparse.name") {
            extended.path = value;
            extended.sparse = true;
        } else if (key == "GNU.sparse.realsize" || key == "GNU.sparse.size") {
            extended.sparse = true;
            extended.real_size = checked_size(pax_number<std::int64_t>(value));
        } else if (key == "GNU.sparse.offset" || key == "GNU.sparse.numbytes") {
            if (extended.map.size() >= 2 * kMaxSparseSegments) fail("too many sparse segments");
            extended.map.push_back(checked_size(pax_number<std::int64_t>(value)));
        } else if (key == "GNU.sparse.map") {
            for (std::string_view part : split(value, ',')) {
                if (extended.map.size() >= 2 * kMaxSparseSegments) fail("too many sparse segments");
                extended.map.push_back(checked_size(pax_number<std::int64_t>(part)));
            }
        }
    }
}

void TarReader::apply(const Extended& extended, TarEntry& entry) {
    if (extended.path) entry.path = *extended.path;
    if (extended.link_target) entry.link_target = *extended.link_target;
    if (extended.size) entry.stored_size = entry.size = *extended.size;
    if (extended.uid) entry.uid = *extended.uid;
    if (extended.gid) entry.gid = *extended.gid;
    entry.xattrs = extended.xattrs;
    if (!extended.sparse) return;
    entry.sparse = true;
    if (extended.real_size) entry.size = *extended.real_size;
    if (extended.map.size() % 2 != 0) fail("malformed sparse map");
    for (std::size_t i = 0; i < extended.map.size(); i += 2)
        entry.segments.push_back({extended.map[i], extended.map[i + 1]});
}

void TarReader::read_old_gnu_sparse(Header header, TarEntry& entry) {
    entry.sparse = true;
    entry.size = checked_size(number(header, kOldSparseRealSize));
    auto take = [&](Header block, std::size_t offset, std::size_t count) {
        for (std::size_t i = 0; i < count; ++i) {
            Field position{offset + 24 * i, 12};
            Field length{offset + 24 * i + 12, 12};
            if (block[position.offset] == std::byte{0}) return;
            if (entry.segments.size() >= kMaxSparseSegments) fail("too many sparse segments");
            entry.segments.push_back(
                {checked_size(number(block, position)), checked_size(number(block, length))});
        }
    };
    take(header, kOldSparseMap, kOldSparseEntries);
    bool more = header[kOldSparseExtended] != std::byte{0};
    while (more) {
        std::array<std::byte, kBlock> extension;
        read_block(extension, false);
        if (extension[0] == std::byte{0}) fail("malformed sparse map");
        take(extension, 0, kExtensionEntries);
        more = extension[kExtensionExtended] != std::byte{0};
    }
}

// pax sparse 1.0: decimal numbers, one a line, in front of the data: count, then offset and length of each segment;
// padded to whole blocks.
void TarReader::read_pax_sparse_map(TarEntry& entry) {
    std::array<std::byte, kBlock> block;
    std::size_t at = kBlock;
    auto next_number = [&]() -> std::uint64_t {
        std::string digits;
        for (;;) {
            if (at == kBlock) {
                if (entry.stored_size < kBlock) fail("malformed sparse map");
                read_block(block, false);
                entry.stored_size -= kBlock;
                at = 0;
            }
            char c = static_cast<char>(block[at++]);
            if (c == '\n') return checked_size(pax_number<std::int64_t>(digits));
            digits += c;
            if (digits.size() > 20) fail("malformed sparse map");
        }
    };
    std::uint64_t count = next_number();
    if (count > kMaxSparseSegments) fail("too many sparse segments");
    for (std::uint64_t i = 0; i < count; ++i) {
        std::uint64_t offset = next_number();
        std::uint64_t length = next_number();
        entry.segments.push_back({offset, length});
    }
}

// Segments must lie in order inside the file and account for every stored byte.
void TarReader::check_segments(const TarEntry& entry) const {
    std::uint64_t end = 0;
    std::uint64_t stored = 0;
    for (const TarEntry::Segment& segment : entry.segments) {
        if (segment.offset < end || segment.length > entry.size ||
            segment.offset > entry.size - segment.length)
            fail("malformed sparse map");
        end = segment.offset + segment.length;
        stored += segment.length;
    }
    if (stored != entry.stored_size) fail("malformed sparse map");
}

std::optional<TarEntry> TarReader::next() {
    skip(data_left_ + padding_left_);
    data_left_ = padding_left_ = 0;

    Extended extended;
    for (int headers = 0;; ++headers) {
        if (headers > kMaxExtendedHeaders) fail("too many extended headers");
        std::array<std::byte, kBlock> header;
        if (!read_block(header, true) || is_zero(header)) return std::nullopt;
        verify_checksum(header);
        char type = static_cast<char>(header[kType]);
        std::uint64_t size = checked_size(number(header, kSize));
        if (type == 'L' || type == 'K') {
            std::string name = read_extended(size);
            name.resize(std::min(name.size(), name.find('\0')));
            (type == 'L' ? extended.path : extended.link_target) = std::move(name);
            continue;
        }
        if (type == 'x') {
            apply_pax(extended, read_extended(size));
            continue;
        }
        if (type ==
            'g') {  // global pax headers: git's comment and the like; nothing of them concerns a layer
            read_extended(size);
            continue;
        }

        TarEntry entry;
        entry.type = type;
        entry.path = whole_path(header);
        entry.link_target = text(header, kLinkName);
        entry.mode = static_cast<std::uint32_t>(number(header, kMode)) & 07777;
        entry.uid = static_cast<std::uint32_t>(number(header, kUid));
        entry.gid = static_cast<std::uint32_t>(number(header, kGid));
        entry.mtime = number(header, kMtime);
        entry.device_major = static_cast<std::uint32_t>(number(header, kMajor));
        entry.device_minor = static_cast<std::uint32_t>(number(header, kMinor));
        entry.size = entry.stored_size = size;
        apply(extended, entry);
        std::uint64_t in_archive = entry.stored_size;
        if (type == 'S') read_old_gnu_sparse(header, entry);
        if (entry.sparse && extended.sparse_major == 1) read_pax_sparse_map(entry);
        if (entry.sparse) check_segments(entry);
        data_left_ = entry.stored_size;
        padding_left_ = (kBlock - in_archive % kBlock) % kBlock;
        return entry;
    }
}

}  // namespace msb::image
