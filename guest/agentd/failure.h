// The failures that end the boot, and how errors read on the console (spec/guest-agent.md section 2).
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace msb::agentd {

// what() starts with a class prefix: "init error: failed to mount /proc: EPERM: Operation not permitted".
class Failure : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

inline Failure config_error(std::string_view text) {
    return Failure("config error: " + std::string(text));
}
inline Failure init_error(std::string_view text) {
    return Failure("init error: " + std::string(text));
}
inline Failure session_error(std::string_view text) {
    return Failure("exec session error: " + std::string(text));
}
inline Failure io_error(std::string_view text) {
    return Failure("io error: " + std::string(text));
}
inline Failure serial_error(std::string_view text) {
    return Failure("serial port not found: " + std::string(text));
}

// "EINVAL: Invalid argument": mounts and raw system calls.
std::string syscall_error_text(int err);

// One line "agentd: <message>" on standard error, in one write.
void log_line(std::string_view message);

}  // namespace msb::agentd
