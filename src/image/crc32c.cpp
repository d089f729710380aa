#include "image/crc32c.h"

#include <nmmintrin.h>

#include <array>
#include <cstring>

namespace msb::image {

namespace {

constexpr std::array<std::uint32_t, 256> kTable = [] {
    std::array<std::uint32_t, 256> table{};
    for (std::uint32_t i = 0; i < 256; ++i) {
        std::uint32_t value = i;
        for (int bit = 0; bit < 8; ++bit)
            value = value >> 1 ^ (value & 1 ? 0x82F63B78U : 0);
        table[i] = value;
    }
    return table;
}();

std::uint32_t crc_by_table(std::uint32_t crc, std::span<const std::byte> data) {
    for (std::byte b : data)
        crc = crc >> 8 ^ kTable[(crc ^ static_cast<std::uint32_t>(b)) & 0xff];
    return crc;
}

__attribute__((target("sse4.2"))) std::uint32_t crc_by_instruction(
    std::uint32_t crc, std::span<const std::byte> data) {
    std::uint64_t wide = crc;
    while (data.size() >= 8) {
        std::uint64_t word;
        std::memcpy(&word, data.data(), 8);
        wide = _mm_crc32_u64(wide, word);
        data = data.subspan(8);
    }
    crc = static_cast<std::uint32_t>(wide);
    for (std::byte b : data)
        crc = _mm_crc32_u8(crc, static_cast<unsigned char>(b));
    return crc;
}

}  // namespace

std::uint32_t crc32c(std::uint32_t seed, std::span<const std::byte> data) {
    static const bool has_instruction = __builtin_cpu_supports("sse4.2");
    return has_instruction ? crc_by_instruction(seed, data) : crc_by_table(seed, data);
}

}  // namespace msb::image
