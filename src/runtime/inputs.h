// Everything `msb sandbox` is given, read and checked before anything is written (spec/sandbox-process.md sections 2 to 5).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/file_lock.h"
#include "contract/launch_config.h"
#include "contract/mount_spec.h"
#include "contract/process_args.h"

namespace msb::runtime {

struct Inputs {
    contract::ProcessArgs args;
    contract::LaunchConfig config;
    std::vector<contract::DiskSpec> disks;
    contract::DiskImageFormat upper_format = contract::DiskImageFormat::kRaw;
    UniqueFd watchdog;                  // 97; empty when not attached
    UniqueFd startup;                   // 98; empty: the startup line goes to standard output
    std::optional<FileLock> lifecycle;  // always set by read_inputs()
};

// `words` are argv without argv[0]. Adopts (and marks close-on-exec) the inherited descriptors it knows, leaves all
// others alone. Without --lifecycle-lock-fd it blocks until the sandbox has no other owner.
// Throws contract::UsageError whose text goes to standard error; the exit status is in it.
Inputs read_inputs(const std::vector<std::string>& words);

}  // namespace msb::runtime
