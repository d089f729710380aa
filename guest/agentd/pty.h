// Pseudo terminals (pty(7)).
#pragma once

#include <cstdint>

#include "base/fd.h"

namespace msb::agentd {

struct Pty {
    UniqueFd master;  // non-blocking
    UniqueFd slave;
};

// Both ends close-on-exec, with the given window size. Throws Error{kIo}.
Pty open_pty(std::uint16_t rows, std::uint16_t cols);

void set_window_size(int master, std::uint16_t rows, std::uint16_t cols);

}  // namespace msb::agentd
