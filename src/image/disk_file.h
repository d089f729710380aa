// Disk files by their path: made whole or not at all, and grown so that being killed is made good by the next call.
#pragma once

#include <cstdint>
#include <filesystem>

#include "base/fd.h"

namespace msb::image {

// A disk being made as `<path>.part`. Destroying it unpublished removes it; one left by a killed process is replaced.
// Failures are Error{kIo} with the OS's text.
class DiskDraft {
  public:
    explicit DiskDraft(std::filesystem::path path);
    DiskDraft(const DiskDraft&) = delete;
    DiskDraft& operator=(const DiskDraft&) = delete;
    ~DiskDraft();

    int fd() const { return fd_.get(); }  // open for reading and writing
    // Renames the file onto its path. `durable` fsyncs it and its directory.
    void publish(bool durable);

  private:
    std::filesystem::path path_;
    std::filesystem::path part_;
    UniqueFd fd_;
};

// Grows the ext4 disk `path` to `size` bytes if it is smaller. Returns whether it grew. Throws what grow_ext4() throws, and
// Error{kIo}.
//
// A file is lengthened before its file system is, and one longer than its file system looks foreign to grow_ext4(). So a
// growth under way is marked by an empty file `<path>.growing`; whoever finds one finishes or undoes that growth first,
// whatever the file's size.
bool grow_disk(const std::filesystem::path& path, std::uint64_t size);

}  // namespace msb::image
