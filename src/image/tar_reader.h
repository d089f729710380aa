// A streaming reader of tar archives: ustar, pax, GNU long names and every form of GNU sparse file.
//
// The archive is hostile. Every length is checked before it is used, extended headers are limited, nothing recurses.
// It says what the archive says; what may enter a layer is layer_ingest's business.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "image/byte_source.h"
#include "image/file_tree.h"

namespace msb::image {

// One member. Paths are raw bytes, as written.
struct TarEntry {
    char type = '0';
    std::string path;
    std::string link_target;
    std::uint32_t mode = 0;  // & 07777
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::int64_t mtime = 0;
    std::uint32_t device_major = 0;
    std::uint32_t device_minor = 0;
    std::uint64_t size = 0;         // logical size of the file
    std::uint64_t stored_size = 0;  // bytes of data in the archive that read_data() will give
    std::vector<Xattr> xattrs;      // SCHILY.xattr.* of a pax header
    // Sparse files: where the stored bytes go, in order. Empty for files stored whole.
    struct Segment {
        std::uint64_t offset = 0;
        std::uint64_t length = 0;
    };
    bool sparse = false;
    std::vector<Segment> segments;
};

class TarReader {
  public:
    explicit TarReader(ByteSource& source) : source_(source) {}

    // The next member, skipping what is left of the previous one's data; nullopt at the end of the archive (the first
    // zero block, or EOF on a header boundary).
    // Throws Error{kImage}: "archive header checksum mismatch", "unexpected EOF while reading archive entry data", ...
    std::optional<TarEntry> next();

    // Data of the current member; 0 at its end.
    std::size_t read_data(std::span<std::byte> out);

  private:
    struct Extended;  // what pax and GNU headers say about the next member

    bool read_block(std::span<std::byte, 512> block, bool at_boundary);
    void skip(std::uint64_t count);
    std::string read_extended(std::uint64_t size);
    void apply_pax(Extended& extended, std::string_view records);
    void apply(const Extended& extended, TarEntry& entry);
    void read_old_gnu_sparse(std::span<const std::byte, 512> header, TarEntry& entry);
    void read_pax_sparse_map(TarEntry& entry);
    void check_segments(const TarEntry& entry) const;

    ByteSource& source_;
    std::uint64_t data_left_ = 0;     // of the current member
    std::uint64_t padding_left_ = 0;  // to the next header
};

}  // namespace msb::image
