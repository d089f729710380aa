#include "agentd/failure.h"

#include <unistd.h>

#include <cstring>

#include "base/error.h"

namespace msb::agentd {

std::string syscall_error_text(int err) {
    char buffer[128];
    std::string text(errno_name(err));
    if (text.empty()) text = "errno " + std::to_string(err);
    return text + ": " + strerror_r(err, buffer, sizeof buffer);
}

void log_line(std::string_view message) {
    std::string line = "agentd: " + std::string(message) + "\n";
    // A console that cannot be written to is nothing the agent could report anywhere else.
    [[maybe_unused]] ssize_t n = ::write(STDERR_FILENO, line.data(), line.size());
}

}  // namespace msb::agentd
