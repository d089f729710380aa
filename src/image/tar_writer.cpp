#include "image/tar_writer.h"

#include <algorithm>
#include <array>

namespace msb::image {

namespace {

constexpr std::size_t kBlock = 512;
constexpr std::size_t kNameLength = 100;
constexpr std::array<std::byte, 2 * kBlock> kZeros{};

using Header = std::array<char, kBlock>;

void put_text(Header& header, std::size_t offset, std::string_view text) {
    std::ranges::copy(text, header.begin() + static_cast<std::ptrdiff_t>(offset));
}

// Octal digits and a NUL; base 256 with the top bit set when the number is too large for that, or negative.
void put_number(Header& header, std::size_t offset, std::size_t length, std::int64_t value) {
    auto bits = static_cast<std::uint64_t>(value);
    std::size_t digits = length - 1;
    if (bits >> (3 * digits) == 0) {
        for (std::size_t i = digits; i-- > 0; bits >>= 3)
            header[offset + i] = static_cast<char>('0' + (bits & 7));
        return;
    }
    for (std::size_t i = length; i-- > 0; value >>= 8)
        header[offset + i] = static_cast<char>(value);
    header[offset] = static_cast<char>(header[offset] | 0x80);
}

void put_checksum(Header& header) {
    constexpr std::size_t kChecksum = 148;
    std::fill_n(header.begin() + kChecksum, 8, ' ');
    std::int64_t sum = 0;
    for (char c : header)
        sum += static_cast<unsigned char>(c);
    put_number(header, kChecksum, 8, sum);
    header[kChecksum + 7] = '\0';
}

Header make_header(const TarMember& member) {
    Header header{};
    put_text(header, 0, member.path.substr(0, kNameLength));
    put_number(header, 100, 8, member.mode);
    put_number(header, 108, 8, member.uid);
    put_number(header, 116, 8, member.gid);
    put_number(header, 124, 12, static_cast<std::int64_t>(member.size));
    put_number(header, 136, 12, member.mtime);
    header[156] = member.type;
    put_text(header, 157, member.link_target.substr(0, kNameLength));
    put_text(header, 257, "ustar  ");
    if (member.type == '3' || member.type == '4') {
        put_number(header, 329, 8, member.device_major);
        put_number(header, 337, 8, member.device_minor);
    }
    put_checksum(header);
    return header;
}

// "LENGTH key=value\n", where LENGTH counts the whole record, itself included.
std::string pax_record(std::string_view key, std::string_view value) {
    std::string body = " " + std::string(key) + "=" + std::string(value) + "\n";
    std::size_t length = body.size();
    while (std::to_string(length).size() + body.size() != length)
        length = std::to_string(length).size() + body.size();
    return std::to_string(length) + body;
}

}  // namespace

void TarWriter::write_header(const TarMember& member) {
    Header header = make_header(member);
    sink_.write(std::as_bytes(std::span(header)));
}

void TarWriter::begin(const TarMember& member) {
    std::string attributes;
    for (const Xattr& xattr : member.xattrs)
        attributes += pax_record("SCHILY.xattr." + xattr.name, xattr.value);
    if (!attributes.empty()) extension("././@PaxHeader", 'x', attributes);
    // Names end with a NUL in their extension.
    if (member.link_target.size() > kNameLength)
        extension("././@LongLink", 'K', std::string(member.link_target) + '\0');
    if (member.path.size() > kNameLength)
        extension("././@LongLink", 'L', std::string(member.path) + '\0');
    write_header(member);
    size_ = member.size;
}

void TarWriter::extension(std::string_view name, char type, std::string_view content) {
    TarMember member;
    member.path = name;
    member.type = type;
    member.size = content.size();
    write_header(member);
    sink_.write(content);
    pad(content.size());
}

void TarWriter::data(std::span<const std::byte> bytes) {
    sink_.write(bytes);
}

void TarWriter::end() {
    pad(size_);
}

void TarWriter::add(const TarMember& member, std::string_view content) {
    begin(member);
    data(std::as_bytes(std::span(content)));
    end();
}

void TarWriter::finish() {
    sink_.write(kZeros);
}

void TarWriter::pad(std::uint64_t size) {
    std::size_t rest = static_cast<std::size_t>(size % kBlock);
    if (rest != 0) sink_.write(std::span(kZeros).first(kBlock - rest));
}

}  // namespace msb::image
