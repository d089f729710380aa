// Cold boot of our kernel into user mode (a program of a few instructions as init): a bare QEMU
// against our engine, taken in turns so that both see the same load.
//
// usage: vmm_bench VMLINUX [ROUNDS]     $MSB_QEMU or PATH says which QEMU; software emulation.
#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "base/time.h"
#include "vmm/engine_process.h"
#include "vmm/probe_guest.h"
#include "vmm/qemu_machine.h"

namespace {

using namespace msb;
using namespace msb::vmm;

struct Round {
    double spawned = 0;     // ms until the call that starts the engine returned
    double first_byte = 0;  // ms until the kernel's first console byte
    double user_mode = 0;   // ms until init's line arrived
    double ended = 0;       // ms until the engine was reaped
};

double since(std::int64_t begin) {
    return static_cast<double>(monotonic_ns() - begin) / 1e6;
}

// What arrives on the console, against the clock.
struct ConsoleClock {
    std::int64_t begin = 0;
    Round* round = nullptr;
    std::string text;
    void feed(std::string_view bytes) {
        if (text.empty()) round->first_byte = since(begin);
        text += bytes;
        if (round->user_mode == 0 && text.contains(kProbeMarker)) round->user_mode = since(begin);
    }
};

// The shortest command line that boots the same kernel: DESIGN.md section 4.
Round bare(const std::string& qemu, const std::string& kernel, int initramfs, bool verbose) {
    PipeFds console = make_pipe();
    EngineSpawn spawn;
    spawn.executable = qemu;
    spawn.output = console.write.get();
    spawn.inherited_fds = {initramfs};
    spawn.arguments = {
        "-M",
        "microvm,x-option-roms=off,isa-serial=on,rtc=on,pit=on,pic=on,acpi=off",
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
        "-accel",
        "tcg",
        "-cpu",
        "max",
        "-m",
        "256M",
        "-kernel",
        kernel,
        "-initrd",
        fmt::format("/dev/fd/{}", initramfs),
        "-append",
        fmt::format("console=ttyS0 reboot=t panic=-1 rdinit=/init acpi=off pci=off{}",
                    verbose ? " loglevel=7" : ""),
        "-serial",
        "stdio",
        "-device",
        "virtio-serial-device",
        "-device",
        "virtio-rng-device"};
    Round round;
    ConsoleClock clock{.begin = monotonic_ns(), .round = &round, .text = {}};
    EngineProcess process(spawn);
    round.spawned = since(clock.begin);
    console.write.reset();
    char chunk[4096];
    for (ssize_t n; (n = ::read(console.read.get(), chunk, sizeof chunk)) > 0;)
        clock.feed({chunk, static_cast<std::size_t>(n)});
    process.kill_and_reap();
    round.ended = since(clock.begin);
    return round;
}

Round ours(const std::string& qemu, const std::string& kernel, int initramfs, bool verbose) {
    Round round;
    ConsoleClock clock{.begin = monotonic_ns(), .round = &round, .text = {}};
    MachineConfig config;
    config.kernel = kernel;
    config.initramfs = fmt::format("/dev/fd/{}", initramfs);
    config.memory_mib = config.max_memory_mib = 256;
    if (verbose) config.kernel_arguments = {"loglevel=7"};
    const auto machine =
        start_engine(std::move(config), {.engine = qemu,
                                         .accelerator = Accelerator::kTcg,
                                         .accelerator_reason = "",
                                         .verdict_file = {},
                                         .inherited_fds = {initramfs},
                                         .on_console = [&](auto b) { clock.feed(b); }});
    round.spawned = since(clock.begin);
    while (true) {
        if (const auto exit = machine->poll_exit()) {
            if (exit->kind != ExitKind::kGuestShutdown) throw std::runtime_error(exit->detail);
            break;
        }
        pollfd poll{.fd = machine->event_fd(), .events = POLLIN, .revents = 0};
        ::poll(&poll, 1, -1);
    }
    round.ended = since(clock.begin);
    return round;
}

double median(std::vector<double> values) {
    std::ranges::sort(values);
    return values[values.size() / 2];
}

void print(const char* what, const std::vector<Round>& a, const std::vector<Round>& b,
           double Round::* field) {
    const auto column = [&](const std::vector<Round>& rounds) {
        std::vector<double> values;
        for (const Round& round : rounds)
            values.push_back(round.*field);
        return median(values);
    };
    const double bare_ms = column(a), ours_ms = column(b);
    fmt::print("vmm {:<34} bare {:8.1f} ms   ours {:8.1f} ms   ratio {:.2f}\n", what, bare_ms,
               ours_ms, ours_ms / bare_ms);
}

}  // namespace

int main(int argc, char** argv) try {
    if (argc < 2) {
        std::fprintf(stderr, "usage: %s VMLINUX [ROUNDS]\n", argv[0]);
        return 2;
    }
    const int rounds = argc > 2 ? std::atoi(argv[2]) : 5;
    const char* variable = std::getenv("MSB_QEMU");
    const std::string qemu = variable != nullptr ? variable : "/usr/bin/qemu-system-x86_64";
    const UniqueFd initramfs(::memfd_create("bench", MFD_CLOEXEC));
    if (write_all(initramfs.get(), probe_initramfs()) != 0) throw_os_error(EIO, "memfd");

    std::map<bool, std::vector<Round>> bare_rounds, our_rounds;
    for (int i = 0; i < rounds; ++i) {
        for (const bool verbose : {false, true}) {
            bare_rounds[verbose].push_back(bare(qemu, argv[1], initramfs.get(), verbose));
            our_rounds[verbose].push_back(ours(qemu, argv[1], initramfs.get(), verbose));
        }
    }
    print("engine started", bare_rounds[false], our_rounds[false], &Round::spawned);
    print("kernel's first console byte", bare_rounds[true], our_rounds[true], &Round::first_byte);
    print("user mode", bare_rounds[false], our_rounds[false], &Round::user_mode);
    print("engine reaped", bare_rounds[false], our_rounds[false], &Round::ended);
    return 0;
} catch (const std::exception& error) {
    std::fprintf(stderr, "vmm_bench: %s\n", error.what());
    return 1;
}
