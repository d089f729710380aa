// An append-only log file with the rotation of spec/sandbox-process.md section 12.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>

#include "base/fd.h"
#include "contract/exec_log.h"

namespace msb::runtime {

class RotatingFile {
  public:
    explicit RotatingFile(std::filesystem::path path,
                          std::uint64_t limit = contract::kLogRotateBytes)
        : path_(std::move(path)), limit_(limit) {}

    // Opens for appending, creating the file. Returns 0 or an errno.
    int open();
    bool is_open() const noexcept { return static_cast<bool>(fd_); }
    int fd() const noexcept { return fd_.get(); }

    // Appends one record, never split over two files; rotates first when it would not fit. Returns 0 or an errno; then
    // nothing of the record is in the file.
    int write(std::string_view record);

  private:
    void rotate();

    std::filesystem::path path_;
    std::uint64_t limit_;
    UniqueFd fd_;
    std::uint64_t size_ = 0;
};

}  // namespace msb::runtime
