// A first-in first-out queue of bytes in fixed blocks: growing never moves what is already queued.
#pragma once

#include <cstddef>
#include <deque>
#include <memory>
#include <span>

namespace msb::runtime {

class ByteQueue {
  public:
    static constexpr std::size_t kBlockBytes = 64 * 1024;

    std::size_t size() const noexcept { return size_; }
    bool empty() const noexcept { return size_ == 0; }

    void append(std::span<const std::byte> bytes);
    // The longest contiguous run at the head; empty only when the queue is.
    std::span<const std::byte> front() const noexcept;
    // Drops `count` bytes (at most size()) from the head.
    void consume(std::size_t count) noexcept;
    // Copies bytes starting `offset` behind the head; returns how many there were.
    std::size_t peek(std::size_t offset, std::span<std::byte> out) const noexcept;
    void clear() noexcept;

  private:
    struct Block {
        std::unique_ptr<std::byte[]> bytes;
        std::size_t begin = 0;
        std::size_t end = 0;
    };
    std::deque<Block> blocks_;
    std::unique_ptr<std::byte[]>
        spare_;  // one emptied block, so that a steady flow does not allocate
    std::size_t size_ = 0;
};

}  // namespace msb::runtime
