// Block reads and writes on an ext4 image that already exists, and the way its faults are told.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "image/ext4_layout.h"
#include "image/ext4_records.h"

namespace msb::image::ext4 {

// Throws Error{kImage} "unsupported ext4 image: <reason>".
[[noreturn]] void unsupported(const std::string& reason);

class ImageFile {
  public:
    explicit ImageFile(int fd) : fd_(fd) {}  // not owned

    std::uint64_t size() const;
    void resize(std::uint64_t size) const;
    // Throws Error{kIo}; reading past the end is unsupported("... ends early").
    void read(std::uint64_t offset, std::span<std::byte> bytes) const;
    Block read_block(std::uint64_t block) const;
    Block read_blocks(std::uint64_t block, std::size_t count) const;
    void write(std::uint64_t offset, std::span<const std::byte> bytes) const;
    void write_block(std::uint64_t block, std::span<const std::byte> bytes) const;
    // Makes blocks zero, giving their space back where that is possible.
    void erase(std::uint64_t block, std::uint64_t count) const;
    void sync() const;

  private:
    int fd_;
};

}  // namespace msb::image::ext4
