// The launch document and the strings inside it, as a launcher of any generation could send them. What is accepted must
// survive being written and read again.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "base/error.h"
#include "contract/boot_error.h"
#include "contract/exec_log.h"
#include "contract/launch_config.h"
#include "contract/mount_spec.h"
#include "contract/process_args.h"

using namespace msb::contract;

namespace {

void specs(const LaunchConfig& config) {
    for (const std::string& mount : config.mounts) {
        try {
            const MountSpec spec = parse_mount_spec(mount);
            // Byte counts that are no whole number of MiB only come from saturation.
            if (spec.quota_bytes != UINT64_MAX && parse_mount_spec(format_mount_spec(spec)) != spec)
                std::abort();
        } catch (const msb::Error&) {
        }
    }
    for (const std::string& disk : config.disks) {
        try {
            const DiskSpec spec = parse_disk_spec(disk);
            if (parse_disk_spec(format_disk_spec(spec)) != spec) std::abort();
        } catch (const msb::Error&) {
        }
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    try {
        const LaunchConfig config = parse_launch_config(text);
        specs(config);
        (void)effective_run_dir(config);
        if (parse_launch_config(write_launch_config(config)) != config) std::abort();
    } catch (const LaunchConfigError&) {
    }
    (void)parse_boot_error(text);
    (void)parse_startup_line(text);
    (void)parse_exec_log_line(text);
    std::string line;
    append_exec_log_line(line, 0, LogSource::kStdout, text, 1);
    line.pop_back();
    if (line.find('\n') != std::string::npos || !parse_exec_log_line(line)) std::abort();
    return 0;
}
