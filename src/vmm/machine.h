// What a virtual machine is made of, and a running one. Nothing outside src/vmm knows which engine
// runs it.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/fd.h"

namespace msb::vmm {

enum class DiskFormat { kRaw, kQcow2, kVmdk };

struct Disk {
    std::filesystem::path path;
    DiskFormat format = DiskFormat::kRaw;
    bool read_only = false;
    std::string serial;  // virtio-blk serial, at most 20 bytes; may be empty
};

// A named virtio-serial port whose host end is `host`: a connected stream socket the engine reads
// and writes. The other end of the pair stays with the caller and must be open before the machine
// starts.
struct SerialPort {
    std::string name;  // "agent", "runtime"
    UniqueFd engine_end;
};

// Disks become /dev/vda, /dev/vdb, ... in order.
struct MachineConfig {
    std::filesystem::path kernel;     // PVH vmlinux
    std::filesystem::path initramfs;  // cpio with the agent as /init
    unsigned vcpus = 1;               // online at boot
    unsigned max_vcpus = 1;
    std::uint64_t memory_mib = 512;
    std::uint64_t max_memory_mib = 512;
    std::string transparent_hugepage = "madvise";  // kernel argument
    std::vector<Disk> disks;
    std::vector<SerialPort> ports;
    std::filesystem::path console_log;  // guest console, truncated at start
    UniqueFd engine_stderr;             // where the engine's own diagnostics go; nothing when unset
};

enum class Accelerator { kKvm, kTcg };

// How a machine ended.
enum class ExitKind {
    kGuestShutdown,  // the guest powered off, rebooted, or was asked to
    kGuestPanic,     // kernel panic or PID 1 died
    kHostRequest,    // stop() or kill()
    kEngineKilled,   // the engine process died of a signal we did not send
    kEngineError,    // the engine refused to start or reported an internal error
};
struct MachineExit {
    ExitKind kind = ExitKind::kEngineError;
    int exit_code = 1;   // 0 for an orderly end
    std::string detail;  // for people: last engine stderr line, panic line
};

struct MemoryState {
    std::uint64_t boot_mib, target_mib, current_mib, max_mib;
};

// A running machine. Not thread-safe; used from one thread. Destroying it kills the engine and
// reaps it.
class Machine {
  public:
    virtual ~Machine() = default;
    virtual pid_t engine_pid() const = 0;
    virtual Accelerator accelerator() const = 0;
    // Becomes readable when poll_exit() may have something new (engine exit, event).
    // Level-triggered.
    virtual int event_fd() const = 0;
    // Handles pending events without blocking; the exit once it has happened.
    virtual std::optional<MachineExit> poll_exit() = 0;
    // Lets the guest's memory balloon converge on `total_mib` (clamped to boot..max).
    virtual void set_memory_target(std::uint64_t total_mib) = 0;
    virtual MemoryState memory_state() = 0;
    // Confines the vCPU threads to the host CPU time of `online` processors.
    virtual void set_cpu_limit(unsigned online) = 0;
    // Ends the engine now, without asking the guest. Idempotent.
    virtual void kill() = 0;
};

}  // namespace msb::vmm
