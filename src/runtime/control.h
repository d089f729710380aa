// The live-control protocol: one JSON line in, one out (spec/protocol.md section 15). Pure: the machine is behind an
// interface, the socket is in control_server.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace msb::runtime {

struct ControlMemory {
    std::uint64_t boot_mib = 0, target_mib = 0, current_mib = 0, max_mib = 0;
};
struct ControlCpu {
    unsigned possible = 1, requested_online = 1, actual_online = 1, enforced = 1;
};

class ControlTarget {
  public:
    virtual ~ControlTarget() = default;
    virtual bool memory_resizable() const = 0;
    virtual bool cpu_resizable() const = 0;
    virtual ControlMemory memory() = 0;
    virtual ControlCpu cpu() = 0;
    // Values are clamped by the target; effects follow asynchronously.
    virtual void set_memory(std::uint64_t total_mib) = 0;
    virtual void set_cpus(unsigned online) = 0;
};

// A longer request line closes the connection unanswered.
inline constexpr std::size_t kMaxControlLine = 1u << 20;

// The response line with its newline; nullopt when the line is not UTF-8 (the connection is then closed unanswered).
// Requests may hold secrets: nothing of them is logged or repeated.
std::optional<std::string> handle_control_line(std::string_view line, ControlTarget& target);

}  // namespace msb::runtime
