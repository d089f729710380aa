#include "runtime/byte_queue.h"

#include <algorithm>
#include <cstring>

namespace msb::runtime {

void ByteQueue::append(std::span<const std::byte> bytes) {
    size_ += bytes.size();
    while (!bytes.empty()) {
        if (blocks_.empty() || blocks_.back().end == kBlockBytes) {
            auto memory = spare_ ? std::move(spare_)
                                 : std::make_unique_for_overwrite<std::byte[]>(kBlockBytes);
            blocks_.push_back({.bytes = std::move(memory)});
        }
        Block& block = blocks_.back();
        const std::size_t take = std::min(bytes.size(), kBlockBytes - block.end);
        std::memcpy(block.bytes.get() + block.end, bytes.data(), take);
        block.end += take;
        bytes = bytes.subspan(take);
    }
}

std::span<const std::byte> ByteQueue::front() const noexcept {
    if (blocks_.empty()) return {};
    const Block& block = blocks_.front();
    return {block.bytes.get() + block.begin, block.end - block.begin};
}

void ByteQueue::consume(std::size_t count) noexcept {
    size_ -= count;
    while (count > 0) {
        Block& block = blocks_.front();
        const std::size_t take = std::min(count, block.end - block.begin);
        block.begin += take;
        count -= take;
        if (block.begin == block.end) {
            spare_ = std::move(block.bytes);
            blocks_.pop_front();
        }
    }
}

std::size_t ByteQueue::peek(std::size_t offset, std::span<std::byte> out) const noexcept {
    std::size_t copied = 0;
    for (const Block& block : blocks_) {
        const std::size_t held = block.end - block.begin;
        if (offset >= held) {
            offset -= held;
            continue;
        }
        const std::size_t take = std::min(out.size() - copied, held - offset);
        std::memcpy(out.data() + copied, block.bytes.get() + block.begin + offset, take);
        copied += take;
        offset = 0;
        if (copied == out.size()) break;
    }
    return copied;
}

void ByteQueue::clear() noexcept {
    blocks_.clear();
    size_ = 0;
}

}  // namespace msb::runtime
