// Writes tars as GNU tar does: long names in 'L' and 'K' members, numbers that do not fit in base 256. Extended
// attributes go into a pax header in front (spec/images.md section 16.2; GNU tar, "Basic Tar Format").
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "image/file_tree.h"

namespace msb::image {

// Where bytes go. Throws msb::Error when they cannot.
class ByteSink {
  public:
    virtual ~ByteSink() = default;
    virtual void write(std::span<const std::byte> bytes) = 0;
    void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
};

struct TarMember {
    std::string_view path;
    char type = '0';  // as in a tar header
    std::string_view link_target;
    std::uint32_t mode = 0644;
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::int64_t mtime = 0;
    std::uint64_t size = 0;          // of the data that follows
    std::uint32_t device_major = 0;  // types '3' and '4'
    std::uint32_t device_minor = 0;
    std::span<const Xattr> xattrs;
};

class TarWriter {
  public:
    explicit TarWriter(ByteSink& sink) : sink_(sink) {}

    void begin(const TarMember& member);
    // Data of the member, member.size bytes in all.
    void data(std::span<const std::byte> bytes);
    void end();
    void add(const TarMember& member, std::string_view content);  // all three
    void finish();                                                // the archive's end mark

  private:
    void write_header(const TarMember& member);
    void extension(std::string_view name, char type, std::string_view content);
    void pad(std::uint64_t size);

    ByteSink& sink_;
    std::uint64_t size_ = 0;
};

}  // namespace msb::image
