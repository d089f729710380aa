// mount(2) with the error texts the console shows, and the mounts every guest has
// (spec/guest-agent.md section 5.1).
#pragma once

#include <string>

#include "protocol/messages.h"

namespace msb::agentd {

inline constexpr const char* kRuntimeDirectory = "/.msb";
inline constexpr const char* kRuntimeTag = "msb_runtime";

// Returns 0 or the errno.
int mount_at(const char* source, const std::string& target, const char* type, unsigned long flags,
             const char* data = nullptr);

// What the agent itself needs before it can look for its port: /dev and /sys.
// Throws Failure.
void mount_early();
// All of section 5.1 but /.msb. Throws Failure "init error: failed to mount T: E".
void mount_essential();

// /.msb: the runtime share, or a tmpfs filled from the bootstrap. Throws Failure.
void mount_runtime_directory(const protocol::Bootstrap& bootstrap);

// MS_* of a user mount.
unsigned long mount_flags(const protocol::MountFlags& flags);

}  // namespace msb::agentd
