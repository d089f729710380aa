#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>

#include "base/error.h"
#include "base/log.h"
#include "vmm/accelerator.h"
#include "vmm/command_line.h"
#include "vmm/disk_image.h"
#include "vmm/kernel_image.h"
#include "vmm/machine.h"
#include "vmm/qemu_machine.h"

namespace msb::vmm {
namespace {

void require_readable(const std::filesystem::path& path, std::string_view what) {
    if (::access(path.c_str(), R_OK) != 0)
        throw Error(ErrorCode::kCustom,
                    fmt::format("{} {}: {}", what, path.string(), os_error_text(errno)));
}

void check_disks(const MachineConfig& config) {
    for (std::size_t i = 0; i < config.disks.size(); ++i) {
        try {
            inspect_disk_image(config.disks[i]);
        } catch (const DiskImageError& error) {
            throw DiskError(i, config.disks[i].path, error.what(), error.os_error());
        }
    }
}

}  // namespace

DiskError::DiskError(std::size_t disk_index, const std::filesystem::path& disk_path,
                     std::string reason, int os_error)
    : Error(ErrorCode::kCustom, fmt::format("disk image {}: {}", disk_path.string(), reason)),
      index_(disk_index),
      reason_(std::move(reason)),
      os_error_(os_error) {}

std::unique_ptr<Machine> start_machine(MachineConfig config, const EngineOptions& options) {
    validate(config);
    check_kernel(config.kernel);
    if (!config.initramfs.empty()) require_readable(config.initramfs, "guest initramfs");
    check_disks(config);
    config.kernel = std::filesystem::absolute(config.kernel);
    AcceleratorReport accelerator = choose_accelerator(config.kernel, options);
    if (accelerator.accelerator == Accelerator::kKvm) {
        log(LogLevel::kInfo, "vmm", "accelerator: kvm ({})", accelerator.reason);
    } else {
        log(LogLevel::kWarn, "vmm",
            "accelerator: tcg, software emulation: slower, and not a security boundary QEMU's "
            "developers vouch for ({})",
            accelerator.reason);
    }
    return start_engine(std::move(config), {.engine = options.engine,
                                            .accelerator = accelerator.accelerator,
                                            .accelerator_reason = std::move(accelerator.reason),
                                            .verdict_file = options.verdict_file,
                                            .inherited_fds = options.inherited_fds,
                                            .on_console = {}});
}

}  // namespace msb::vmm
