// CRC-32C (polynomial 0x82F63B78, reflected), chained, without the final inversion: the form EROFS and ext4 store.
#pragma once

#include <cstdint>
#include <span>

namespace msb::image {

std::uint32_t crc32c(std::uint32_t seed, std::span<const std::byte> data);

}  // namespace msb::image
