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
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/fd.h"

namespace msb::vmm {

enum class DiskFormat { kRaw, kQcow2, kVmdk };

inline constexpr std::uint64_t kConsoleLogLimit = 64ull << 20;  // bytes

struct Disk {
    std::filesystem::path path;
    DiskFormat format =
        DiskFormat::kRaw;  // never guessed: contents that say otherwise are an error
    bool read_only = false;
    std::string serial;  // virtio-blk serial, at most 20 bytes of [A-Za-z0-9._-]; may be empty
    // Directories (beside the image's own) in which files named by a VMDK descriptor may lie.
    std::vector<std::filesystem::path> extent_roots;
};

// A named virtio-serial port. `engine_end` is one end of a connected stream socketpair and moves
// into the engine; the other end stays with the caller, who must hold it open for as long as the
// machine runs (the host end must be connected before the guest opens the port). Bytes written
// before the guest has opened the port are kept until it does.
struct SerialPort {
    std::string name;  // "agent", "runtime"
    UniqueFd engine_end;
};

struct MachineConfig {
    std::filesystem::path kernel;     // uncompressed vmlinux with a PVH entry
    std::filesystem::path initramfs;  // cpio with the agent as /init; empty: none
    unsigned vcpus = 1;               // online at boot, 1..max_vcpus
    unsigned max_vcpus = 1;           // 1..kMaxVcpus
    // What the guest may use at boot and at most. With max > boot a balloon takes the difference.
    std::uint64_t memory_mib = 512;
    std::uint64_t max_memory_mib = 512;
    std::string transparent_hugepage = "madvise";  // always | madvise | never: kernel argument
    std::vector<std::string> kernel_arguments;     // appended to ours; no white space inside one
    // The host processor each vCPU thread is bound to, by vCPU: max_vcpus of them, or none.
    std::vector<int> vcpu_processors;
    // Called once from poll_exit(), when the engine has its threads: which of them could be bound.
    std::function<void(const std::vector<bool>&)> on_vcpus_bound;
    // Host NUMA node that memory is taken from: preferably, or only. Unset: as the host likes.
    std::optional<int> memory_node;
    bool memory_node_only = false;
    std::vector<Disk> disks;        // /dev/vda, /dev/vdb, ... in order
    std::vector<SerialPort> ports;  // port 1, 2, ... in order
    // Guest console, truncated at start; empty: discarded. A guest can write to its console for
    // ever: what is beyond the limit is dropped.
    std::filesystem::path console_log;
    std::uint64_t console_log_limit = kConsoleLogLimit;
    // Receives what the engine writes to its standard error (the caller's log); nothing when unset.
    UniqueFd engine_stderr;
};

inline constexpr unsigned kMaxVcpus = 64;                   // CONFIG_NR_CPUS of the guest kernel
inline constexpr std::uint64_t kMaxMemoryMib = 1ull << 20;  // 1 TiB: more is a mistyped unit
enum class Accelerator { kKvm, kTcg };
enum class AcceleratorChoice { kAuto, kKvm, kTcg };
std::string_view to_string(Accelerator accelerator);  // "kvm", "tcg"
// "auto", "kvm", "tcg"; nullopt for anything else.
std::optional<AcceleratorChoice> parse_accelerator_choice(std::string_view text);

struct EngineOptions {
    std::filesystem::path engine;  // the engine's executable: find_parts().engine
    // The environment variable MSB_ACCEL, when set, wins over this.
    AcceleratorChoice accelerator = AcceleratorChoice::kAuto;
    // Where the accelerator probe remembers its verdict (MSB_HOME/cache/accel.json); "<file>.lock"
    // is created beside it. Empty: probe each time.
    std::filesystem::path verdict_file;
    // Descriptors the engine keeps open, under the same numbers, beside what it needs itself: a
    // lock that has to live as long as the engine. Everything else stays out of the engine.
    std::vector<int> inherited_fds;
};

// How a machine ended.
enum class ExitKind {
    kGuestShutdown,     // the guest powered off, halted or rebooted
    kGuestPanic,        // kernel panic (PID 1 dying is one)
    kHostRequest,       // kill()
    kEngineKilled,      // the engine process died of a signal we did not send
    kEngineError,       // the engine refused to start or failed
    kAcceleratorError,  // KVM cannot run this guest (internal error); the next start probes again
};
std::string_view to_string(ExitKind kind);  // "guest shutdown", "guest panic", ...

struct MachineExit {
    ExitKind kind = ExitKind::kEngineError;
    int exit_code = 1;   // 0 for kGuestShutdown and kHostRequest, 1 otherwise
    std::string detail;  // for people: panic line, signal, last engine diagnostics; may be empty
};

struct MemoryState {
    std::uint64_t boot_mib, target_mib, current_mib, max_mib;
};

// What a machine has used of the host since it started; absent where it is unknown.
struct MachineUsage {
    std::optional<std::uint64_t> vcpu_ns;         // processor time of all vCPU threads
    std::optional<std::uint64_t> resident_bytes;  // of the engine: guest memory and its own
};

// A running machine. Not thread-safe: used from the thread that started it, which must outlive it
// (the engine dies with that thread). Destroying it kills the engine and reaps it. The engine is
// reaped by its own pid; the caller must not wait for unknown children (waitpid(-1)).
class Machine {
  public:
    virtual ~Machine() = default;

    virtual pid_t engine_pid() const = 0;
    virtual Accelerator accelerator() const = 0;
    // Why this accelerator: "KVM works", "/dev/kvm: Permission denied (os error 13)", ...
    virtual const std::string& accelerator_reason() const = 0;

    // Becomes readable when poll_exit() has work (engine event or exit, console output). It is an
    // epoll instance: level-triggered, usable in another epoll or poll set, owned by the machine.
    // It must be served all along: the console and the engine's diagnostics pass through it.
    virtual int event_fd() const = 0;
    // Handles what is pending without blocking; the exit once it has happened (and from then on).
    virtual std::optional<MachineExit> poll_exit() = 0;

    // Lets the guest's memory balloon converge on `total_mib` (clamped to boot..max). The guest
    // co-operates or not: its memory can never exceed max.
    virtual void set_memory_target(std::uint64_t total_mib) = 0;
    virtual MemoryState memory_state() = 0;

    // Confines the vCPU threads to `online` host processors (clamped to 1..max_vcpus; max_vcpus
    // lifts the limit). Effective at once, or as soon as the engine has its threads. With
    // vcpu_processors these are the first `online` of them, which the other vCPUs share.
    virtual void set_cpu_limit(unsigned online) = 0;
    virtual unsigned cpu_limit() const = 0;

    virtual MachineUsage usage() const = 0;

    // Ends the engine now, without asking the guest, and reaps it. Idempotent; poll_exit() then
    // has the exit (kHostRequest unless the machine had already ended by itself).
    virtual void kill() = 0;
};

// A disk the machine cannot be started with. what() is "disk image <path>: <reason>".
class DiskError : public Error {
  public:
    DiskError(std::size_t disk_index, const std::filesystem::path& disk_path, std::string reason,
              int os_error = 0);
    std::size_t index() const noexcept { return index_; }  // in MachineConfig::disks
    // Alone, for messages with their own prefix: "No such file or directory (os error 2)".
    const std::string& reason() const noexcept { return reason_; }
    int os_error() const noexcept { return os_error_; }  // 0: not an OS error

  private:
    std::size_t index_;
    std::string reason_;
    int os_error_;
};

// Checks the description, chooses the accelerator and starts the engine. Returns once the engine
// process runs; the guest starts by itself. An engine that dislikes its arguments ends the machine
// with kEngineError a few milliseconds later.
//
// Blocks for the accelerator probe (at most kAcceleratorProbeLimit) when there is no verdict yet.
//
// Throws DiskError, or Error{kCustom} whose text the caller may prefix with "build VM: "
// ("configuration error: invalid vCPU count: 0", spec/sandbox-process.md section 16).
std::unique_ptr<Machine> start_machine(MachineConfig config, const EngineOptions& options);

}  // namespace msb::vmm
