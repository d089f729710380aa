// Grow-only resize of the ext4 file systems this folder and upstream make (spec/images.md section 12).
//
// The image may have been written by a guest since, so everything is checked before a byte changes: only images of
// exactly our geometry and features are taken. A journal that was not emptied is replayed first (ext4_journal.h). Growth
// appends groups and moves nothing, and the primary superblock is written last: a process killed in between leaves a file
// system of the old size, which the next call grows.
#pragma once

#include <cstdint>

#include "base/error.h"

namespace msb::image {

// The requested size is beyond what the group descriptors' reserve can address.
class Ext4CapacityError : public Error {
  public:
    Ext4CapacityError(std::uint64_t requested, std::uint64_t maximum);
    std::uint64_t maximum() const { return maximum_; }  // bytes

  private:
    std::uint64_t maximum_;
};

// Grows the file system in `fd` (open for reading and writing, nobody else has it open) to `new_size` bytes, a larger
// multiple of 4096. Throws Error{kImage}: "unsupported ext4 image: <reason>", "invalid ext4 image size: ...",
// Ext4CapacityError "cannot grow ext4 image to N bytes: group descriptor capacity allows at most M bytes; recreate the
// image to grow beyond this"; Error{kIo}.
void grow_ext4(int fd, std::uint64_t new_size);

// Checks everything grow_ext4 checks of an image (without a dirty journal) and nothing else. Throws as above.
void check_ext4(int fd);

}  // namespace msb::image
