// Grow-only resize of the ext4 file systems this folder and upstream make (spec/images.md section 12).
//
// The image may have been written by a guest since, so everything is checked before a byte changes: only images of
// exactly our geometry and features are taken. A journal that was not emptied is replayed first (ext4_journal.h). Growth
// appends groups and moves nothing. What changes inside the old file system goes through its own journal as one
// transaction, so that whatever moment a process is killed at, the image is a consistent file system of the old or of the
// new size to every ext4 implementation.
#pragma once

#include <cstdint>
#include <memory>

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

// One growth of the file system in `fd` (open for reading and writing, not owned; nobody else has it open).
class Ext4Growth {
  public:
    // Checks that the image is one of ours and can become `new_size` bytes, a larger multiple of 4096. Writes nothing but
    // what a dirty journal holds. Throws Error{kImage}: "unsupported ext4 image: <reason>", "invalid ext4 image size: ...",
    // Ext4CapacityError "cannot grow ext4 image to N bytes: group descriptor capacity allows at most M bytes; recreate the
    // image to grow beyond this"; Error{kIo}.
    Ext4Growth(int fd, std::uint64_t new_size);
    ~Ext4Growth();

    // Carries it out. After a failure (Error{kIo}: the disk is full) the file system is consistent, of the old or the new
    // size, but the file may be longer than it: settle_ext4_growth() brings that into order.
    void apply();

  private:
    struct Plan;
    std::unique_ptr<Plan> plan_;
};

// Both of the above.
void grow_ext4(int fd, std::uint64_t new_size);

// Brings an image whose growth was interrupted into order: the growth's transaction is replayed if it was committed, and
// what the file is longer than its file system is taken off. Throws "unsupported ext4 image: <reason>".
void settle_ext4_growth(int fd);

// Throws "unsupported ext4 image: <reason>" unless the image would be grown as it is, with an empty journal. Writes nothing.
void check_ext4(int fd);

}  // namespace msb::image
