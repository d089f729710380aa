// Fresh host randomness for a guest that may be a clone of another (DESIGN.md section 4, point 5).
#pragma once

#include <cstddef>
#include <span>

namespace msb::agentd {

// Credits the bytes to the kernel's pool and makes every generator reseed at once. Without bytes
// nothing happens. Errors are logged: a guest without /dev/random is still usable.
void mix_entropy(std::span<const std::byte> bytes);

}  // namespace msb::agentd
