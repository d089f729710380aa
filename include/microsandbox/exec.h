// Running commands in a sandbox and talking to them while they run.
//
// Threads: an ExecHandle's recv/wait/collect may be called from one thread at a time; its stdin and its controls may be
// used from other threads at the same time. All waits end early when the given std::stop_token is triggered (the call
// then throws Error{kCancelled} and the handle stays usable).
#pragma once

#include <microsandbox/error.h>
#include <microsandbox/export.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace microsandbox {

// One POSIX resource limit; `resource` is cpu, fsize, data, stack, core, rss, nproc, nofile, memlock, as, locks,
// sigpending, msgqueue, nice, rtprio or rttime, in any case.
struct Rlimit {
    std::string resource;
    std::uint64_t soft = 0;
    std::uint64_t hard = 0;
};

enum class StdinMode : std::uint8_t {
    kNull,   // nothing is ever sent
    kBytes,  // ExecOptions::stdin_bytes, then end of file
    kPipe,   // the program writes through ExecHandle::take_stdin()
};

struct ExecOptions {
    std::optional<std::string> cwd;  // else the sandbox's workdir, else "/"
    std::optional<std::string>
        user;  // else the sandbox's user; "name", "uid", "name:group" or "uid:gid"
    std::vector<std::pair<std::string, std::string>>
        env;  // overrides entries of the sandbox's environment
    // exec/shell/exec_default only (streams ignore it): kill the process and throw ExecTimeoutError.
    std::optional<std::chrono::milliseconds> timeout;
    StdinMode stdin_mode = StdinMode::kNull;
    std::string stdin_bytes;
    bool tty = false;         // run on a pseudo terminal: all output is stdout
    std::uint16_t rows = 24;  // initial terminal size
    std::uint16_t cols = 80;
    std::vector<Rlimit> rlimits;  // soft > hard: Error{kInvalidConfig}
};

// How a guest process ended. `code` is 0..255, or -1 when a signal killed it.
struct ExitStatus {
    int code = 0;
    bool success() const noexcept { return code == 0; }
};

// Everything a finished command wrote; bytes as they came. A non-zero exit code is not an error.
struct ExecOutput {
    ExitStatus status;
    std::string stdout_bytes;
    std::string stderr_bytes;
};

struct ExecStarted {
    std::uint32_t pid = 0;  // in the guest
};
struct ExecStdout {
    std::string data;
};
struct ExecStderr {
    std::string data;
};
struct ExecExited {
    int code = 0;  // as ExitStatus::code
};
struct ExecFailed {
    ExecFailure failure;
};
// The process no longer reads its input; the session goes on.
struct ExecStdinError {
    std::optional<std::int32_t> errno_value;
    std::optional<std::string> errno_name;
    std::string message;
};
// ExecExited or ExecFailed is always the last event.
using ExecEvent =
    std::variant<ExecStarted, ExecStdout, ExecStderr, ExecExited, ExecFailed, ExecStdinError>;

// The input of a running command (StdinMode::kPipe). Movable; destroying it does not close the input.
class MICROSANDBOX_API ExecStdin {
  public:
    struct Impl;  // incomplete outside the library

    ExecStdin(ExecStdin&&) noexcept;
    ExecStdin& operator=(ExecStdin&&) noexcept;
    ~ExecStdin();

    // Sends all of `data`; blocks while the guest is not taking it. Empty data does nothing.
    // Throws Error{kAgentClient} when the connection is gone. A cancelled write ends the whole session.
    void write(std::string_view data, std::stop_token stop = {});
    // End of file for the process. Idempotent. (Under a pseudo terminal send "\x04" instead.)
    void close();

  private:
    friend class ExecHandle;
    explicit ExecStdin(std::shared_ptr<Impl> impl);
    std::shared_ptr<Impl> impl_;
};

// Signals and resizes a running command; copies refer to the same command, keep working from any thread and are without
// effect once it ended. They do not keep the session alive.
class MICROSANDBOX_API ExecControl {
  public:
    struct Impl;  // incomplete outside the library

    void signal(int number) const;  // 1..31, to the whole process group
    void kill() const;              // signal 9
    void resize(std::uint16_t rows, std::uint16_t cols) const;

  private:
    friend class ExecHandle;
    explicit ExecControl(std::weak_ptr<Impl> impl);
    std::weak_ptr<Impl> impl_;
};

// What recv_for() saw: an event, the end (neither member set), or nothing yet.
struct ExecPoll {
    std::optional<ExecEvent> event;
    bool timed_out = false;
};

// A command that runs in the sandbox. Move-only. Destroying the handle before the last event closes its connection,
// and the guest then kills the process and its process group.
class MICROSANDBOX_API ExecHandle {
  public:
    struct Impl;  // incomplete outside the library

    ExecHandle(ExecHandle&&) noexcept;
    ExecHandle& operator=(ExecHandle&&) noexcept;
    ~ExecHandle();

    // The correlation id as decimal text.
    std::string id() const;

    // The next event; nullopt after the last one. Blocks until something happens. Reading slowly is fine: the process
    // is stopped by its full pipe, other commands are not affected.
    // Throws Error{kRuntime} "exec session ended without exit event" when the connection ends first, once.
    std::optional<ExecEvent> recv(std::stop_token stop = {});
    // The same with a limit.
    ExecPoll recv_for(std::chrono::milliseconds limit, std::stop_token stop = {});

    // The input, once; nullopt the second time or when the mode is not kPipe.
    std::optional<ExecStdin> take_stdin();
    ExecControl control() const;

    void signal(int number);
    void kill();
    void resize(std::uint16_t rows, std::uint16_t cols);

    // Discards output until the command ends. Throws ExecFailedError when it never started.
    ExitStatus wait(std::stop_token stop = {});
    // Collects the rest of the output. Throws ExecFailedError when it never started.
    ExecOutput collect(std::stop_token stop = {});

  private:
    friend class Sandbox;
    friend struct ExecAccess;
    explicit ExecHandle(std::shared_ptr<Impl> impl);
    std::shared_ptr<Impl> impl_;
};

// An interactive command on this process's terminal.
struct AttachOptions {
    std::optional<std::string> cwd;
    std::optional<std::string> user;
    std::vector<std::pair<std::string, std::string>> env;
    std::vector<Rlimit> rlimits;
    // Comma list of "ctrl-<letter or @ [ \ ] ^ _>" or single characters; unset = "ctrl-]".
    // Malformed: Error{kInvalidConfig} "invalid detach key: <part>".
    std::optional<std::string> detach_keys;
    // Kill the process and throw ExecTimeoutError (the terminal is restored first).
    std::optional<std::chrono::milliseconds> timeout;
};

}  // namespace microsandbox
