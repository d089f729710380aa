// The outer tar of an image archive: which members there are, and access to their bytes in any order.
#pragma once

#include <cstdint>
#include <stop_token>
#include <string>
#include <string_view>
#include <unordered_map>

#include "base/fd.h"
#include "image/byte_source.h"
#include "image/cache.h"
#include "image/streams.h"

namespace msb::image {

// Limits: archive.h. Const access is thread-safe.
class ArchiveReader {
  public:
    struct Member {
        std::uint64_t offset = 0;  // of its data
        std::uint64_t size = 0;
        bool operator==(const Member&) const = default;
    };

    // Reads the archive's headers; keeps a compressed archive, or one that can be read only once, in an unnamed file of
    // the cache. `input` must stay open; one that can be read only once is read to its end.
    // Throws Error{kCustom} "cannot read the archive: ...", "archive entry ...", "cache error at PATH: ...";
    // Error{kCancelled}.
    ArchiveReader(const Cache& cache, int input, const std::stop_token& stop);

    // The file of that name (one leading "./" means nothing), the first when there are several, as upstream takes it. A
    // link stands for the file it names, if that is one: `docker save` used to store a layer that occurs twice so.
    // Nothing of a path reaches the host's file system.
    const Member* find(std::string_view path) const;

    // All of a small member. Throws Error{kCustom}
    // "manifest parse error: archive metadata entry P is N bytes; max is 16777216".
    std::string read(const Member& member, std::string_view path) const;
    FileSource open(const Member& member) const;

  private:
    class StreamSource;
    class PositionedSource;
    class InPlaceSource;
    class SpoolSource;

    void read_input(const Cache& cache, int input, const std::stop_token& stop);
    void spool(const Cache& cache, ByteSource& raw, const std::stop_token& stop);
    void scan(PositionedSource& source, const std::stop_token& stop);
    void add_link(std::string path, std::string_view target, bool symbolic);

    UniqueFd spool_;
    int fd_ = -1;  // what the members' offsets refer to
    std::unordered_map<std::string, Member> members_;
    std::unordered_map<std::string, std::string> links_;  // to the name of what they stand for
};

}  // namespace msb::image
