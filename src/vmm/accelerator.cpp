#include "vmm/accelerator.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/kvm.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/fd.h"
#include "base/file_lock.h"
#include "base/log.h"
#include "base/process.h"
#include "base/text.h"
#include "base/time.h"
#include "vmm/probe_guest.h"
#include "vmm/qemu_machine.h"
#include "vmm/verdict.h"

namespace msb::vmm {
namespace {

constexpr std::string_view kTarget = "vmm";
constexpr std::uint64_t kProbeMemoryMib = 128;

struct Demand {
    AcceleratorChoice choice = AcceleratorChoice::kAuto;
    std::string source;  // "MSB_ACCEL=kvm", "the configuration"
};

Demand demand(const EngineOptions& options) {
    const char* variable = std::getenv("MSB_ACCEL");
    if (variable == nullptr || *variable == '\0') return {options.accelerator, "the configuration"};
    const auto choice = parse_accelerator_choice(variable);
    if (!choice)
        throw Error(ErrorCode::kCustom,
                    fmt::format("MSB_ACCEL={}: expected kvm, tcg or auto", msb::quoted(variable)));
    return {*choice, fmt::format("MSB_ACCEL={}", variable)};
}

// What is wrong with /dev/kvm at first sight; nullopt: nothing, which proves little.
std::optional<std::string> kvm_device_problem() {
    const UniqueFd kvm(::open("/dev/kvm", O_RDWR | O_CLOEXEC));
    if (!kvm) return "/dev/kvm: " + os_error_text(errno);
    const int version = ::ioctl(kvm.get(), KVM_GET_API_VERSION, 0);
    if (version != KVM_API_VERSION) return fmt::format("/dev/kvm has API version {}", version);
    return std::nullopt;
}

struct ProbeResult {
    Verdict verdict;
    bool conclusive = true;  // about KVM, not about an engine that could not be started
};

Verdict no(std::string reason) {
    return {.accelerator = Accelerator::kTcg, .reason = std::move(reason)};
}

UniqueFd initramfs_file() {
    UniqueFd file(::memfd_create("msb-probe", MFD_CLOEXEC));
    if (!file) throw_os_error(errno, "memfd_create");
    if (const int error = write_all(file.get(), probe_initramfs()); error != 0)
        throw_os_error(error, "memfd");
    return file;
}

// Serves the machine until it ends; nullopt when the time is up.
std::optional<MachineExit> run_probe(Machine& machine, std::int64_t deadline_ns) {
    while (true) {
        if (auto exit = machine.poll_exit()) return exit;
        const std::int64_t left_ms = (deadline_ns - monotonic_ns()) / 1'000'000;
        if (left_ms <= 0) return std::nullopt;
        pollfd poll{.fd = machine.event_fd(), .events = POLLIN, .revents = 0};
        ::poll(&poll, 1, static_cast<int>(left_ms));
    }
}

ProbeResult probe_kvm(const std::filesystem::path& kernel, const EngineOptions& options) try {
    const std::int64_t begin = monotonic_ns();
    const UniqueFd initramfs = initramfs_file();
    MachineConfig config;
    config.kernel = kernel;
    config.initramfs = fmt::format("/dev/fd/{}", initramfs.get());
    config.memory_mib = config.max_memory_mib = kProbeMemoryMib;

    std::string console;
    const auto machine =
        start_engine(std::move(config), {.engine = options.engine,
                                         .accelerator = Accelerator::kKvm,
                                         .accelerator_reason = "probe",
                                         .verdict_file = {},
                                         .inherited_fds = {initramfs.get()},
                                         .on_console = [&](std::string_view bytes) {
                                             if (console.size() < kProbeMemoryMib * 1024)
                                                 console.append(bytes);
                                         }});
    const auto limit = std::chrono::nanoseconds(kAcceleratorProbeLimit).count();
    const auto exit = run_probe(*machine, begin + limit);

    ProbeResult result;
    if (!exit) {
        result.verdict = no(fmt::format("under KVM the guest kernel did not come up within {} s",
                                        kAcceleratorProbeLimit.count() / 1000));
    } else if (exit->kind == ExitKind::kGuestShutdown && console.contains(kProbeMarker)) {
        result.verdict = {.accelerator = Accelerator::kKvm, .reason = "KVM runs the guest kernel"};
    } else if (exit->kind == ExitKind::kGuestShutdown) {
        result.verdict = no("under KVM the guest kernel resets the machine");
    } else {
        const std::string detail(exit->detail.substr(0, exit->detail.find('\n')));
        result.verdict = no(fmt::format("KVM cannot run the guest kernel: {}", detail));
        result.conclusive =
            exit->kind == ExitKind::kAcceleratorError || exit->kind == ExitKind::kGuestPanic;
    }
    result.verdict.probe_ms = static_cast<int>((monotonic_ns() - begin) / 1'000'000);
    return result;
} catch (const Error& error) {
    return {.verdict = no(fmt::format("KVM was not probed: {}", error.what())),
            .conclusive = false};
}

AcceleratorReport report(const Verdict& verdict, bool remembered) {
    return {.accelerator = verdict.accelerator,
            .reason = verdict.reason,
            .forced = false,
            .remembered = remembered,
            .probe_ms = verdict.probe_ms};
}

// Probes and remembers; with a verdict file, one process at a time.
AcceleratorReport probe_and_remember(const std::filesystem::path& kernel,
                                     const EngineOptions& options, bool fresh) {
    const std::filesystem::path& file = options.verdict_file;
    std::optional<VerdictKey> key;
    std::optional<FileLock> lock;
    if (!file.empty()) {
        try {
            key = verdict_key(options.engine, kernel);
            if (!fresh) {
                if (const auto verdict = read_verdict(file, *key)) return report(*verdict, true);
            }
            // A new home has no cache directory yet; if it cannot be made, the lock says why.
            std::error_code ignored;
            std::filesystem::create_directories(file.parent_path(), ignored);
            lock = FileLock::acquire(file.string() + ".lock");
            if (!fresh) {  // somebody else may have probed while we waited
                if (const auto verdict = read_verdict(file, *key)) return report(*verdict, true);
            }
        } catch (const Error& error) {
            log(LogLevel::kWarn, kTarget, "the accelerator verdict is not remembered: {}",
                error.what());
            key.reset();
        }
    }
    const ProbeResult result = probe_kvm(kernel, options);
    if (key && result.conclusive) {
        try {
            write_verdict(file, *key, result.verdict);
        } catch (const Error& error) {
            log(LogLevel::kWarn, kTarget, "the accelerator verdict is not remembered: {}",
                error.what());
        }
    }
    return report(result.verdict, false);
}

AcceleratorReport find_out(const std::filesystem::path& kernel, const EngineOptions& options,
                           const Demand& wanted, bool fresh) {
    if (wanted.choice == AcceleratorChoice::kTcg)
        return {.accelerator = Accelerator::kTcg,
                .reason = "asked for by " + wanted.source,
                .forced = true};
    AcceleratorReport result;
    if (const auto problem = kvm_device_problem()) {
        result.reason = *problem;
    } else {
        result = probe_and_remember(kernel, options, fresh);
    }
    result.forced = wanted.choice == AcceleratorChoice::kKvm;
    return result;
}

std::string unmet_demand(const Demand& wanted, const std::string& reason) {
    return fmt::format(
        "KVM is required by {} but unusable on this host: {} (MSB_ACCEL=tcg runs without hardware "
        "isolation)",
        wanted.source, reason);
}

}  // namespace

std::string_view to_string(Accelerator accelerator) {
    return accelerator == Accelerator::kKvm ? "kvm" : "tcg";
}

std::optional<AcceleratorChoice> parse_accelerator_choice(std::string_view text) {
    if (text == "auto") return AcceleratorChoice::kAuto;
    if (text == "kvm") return AcceleratorChoice::kKvm;
    if (text == "tcg") return AcceleratorChoice::kTcg;
    return std::nullopt;
}

AcceleratorReport choose_accelerator(const std::filesystem::path& kernel,
                                     const EngineOptions& options) {
    const Demand wanted = demand(options);
    AcceleratorReport result = find_out(kernel, options, wanted, false);
    if (wanted.choice == AcceleratorChoice::kKvm && result.accelerator != Accelerator::kKvm)
        throw Error(ErrorCode::kCustom, unmet_demand(wanted, result.reason));
    return result;
}

AcceleratorReport probe_report(const std::filesystem::path& kernel, const EngineOptions& options,
                               bool fresh) {
    Demand wanted;
    try {
        wanted = demand(options);
    } catch (const Error& error) {
        return {.accelerator = Accelerator::kTcg, .reason = error.what(), .forced = true};
    }
    AcceleratorReport result = find_out(kernel, options, wanted, fresh);
    if (wanted.choice == AcceleratorChoice::kKvm && result.accelerator != Accelerator::kKvm)
        result.reason = unmet_demand(wanted, result.reason);
    return result;
}

void forget_verdict(const std::filesystem::path& verdict_file) noexcept {
    if (!verdict_file.empty()) ::unlink(verdict_file.c_str());
}

}  // namespace msb::vmm
