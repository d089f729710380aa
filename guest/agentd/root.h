// Assembling the root file system on block devices and moving into it
// (spec/guest-agent.md section 5.2).
#pragma once

#include "base/fd.h"
#include "protocol/messages.h"

namespace msb::agentd {

// Mounts the root at /newroot. Returns a descriptor on the file system below an overlay, which
// teardown must make read-only by itself; empty for other roots. Throws Failure.
UniqueFd assemble_root(const protocol::BlockRoot& root);

// Makes /newroot the root of this process; nothing is mounted in it yet. Returns the mount of /.msb,
// which furnish_new_root() attaches again. Throws Failure.
UniqueFd enter_new_root();

// Puts /.msb and the essential mounts into the new root, with the directories they need. Throws
// Failure.
void furnish_new_root(const UniqueFd& runtime_directory);

}  // namespace msb::agentd
