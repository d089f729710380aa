#include "agentd/entropy.h"

#include <fcntl.h>
#include <linux/random.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "agentd/failure.h"
#include "base/error.h"
#include "base/fd.h"

namespace msb::agentd {

namespace {

constexpr std::size_t kChunk = 512;

// struct rand_pool_info has a flexible array of words at its end.
struct PoolChunk {
    int entropy_bits;
    int size;
    std::byte data[kChunk];
};

}  // namespace

void mix_entropy(std::span<const std::byte> bytes) {
    if (bytes.empty()) return;
    UniqueFd random(::open("/dev/urandom", O_RDWR | O_CLOEXEC));
    while (random && !bytes.empty()) {
        PoolChunk chunk;
        std::size_t size = std::min(bytes.size(), kChunk);
        chunk.size = static_cast<int>(size);
        chunk.entropy_bits = chunk.size * 8;
        std::memcpy(chunk.data, bytes.data(), size);
        if (::ioctl(random.get(), RNDADDENTROPY, &chunk) != 0) break;
        bytes = bytes.subspan(size);
    }
    if (!bytes.empty() || ::ioctl(random.get(), RNDRESEEDCRNG) != 0)
        log_line("mixing in the host's entropy failed: " + os_error_text(errno));
}

}  // namespace msb::agentd
