// Sandboxes: creating, finding, using and ending them. Include this one header; it brings the others.
//
//   auto box = microsandbox::Sandbox::builder("demo").image("./root.raw").create();
//   auto out = box.exec("uname", {"-r"});
//   std::cout << out.stdout_bytes;
//   box.stop();
//
// Every call is synchronous. Sandbox and SandboxHandle may be copied freely and used from any number of threads at
// once. Calls that wait take a std::stop_token and end with Error{kCancelled} when it is triggered. State lives under
// $MSB_HOME (else ~/.microsandbox), read at every call. Besides the errors named at each function any call may throw
// Error{kIo}, Error{kDatabase} or Error{kInvalidConfig} (unreadable home, database or config.json).
//
// Signals: the library installs no handlers except inside attach(), and blocks none.
#pragma once

#include <microsandbox/backend.h>
#include <microsandbox/builder.h>
#include <microsandbox/error.h>
#include <microsandbox/exec.h>
#include <microsandbox/export.h>
#include <microsandbox/fs.h>
#include <microsandbox/logs.h>
#include <microsandbox/version.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace microsandbox {

enum class SandboxStatus : std::uint8_t {
    kCreated,
    kStarting,
    kRunning,
    kDraining,
    kPaused,
    kStopped,
    kCrashed
};
// "Created", ..., "Crashed".
MICROSANDBOX_API std::string_view to_string(SandboxStatus status) noexcept;
// Any case; throws Error{kInvalidConfig} `invalid sandbox status "bogus"`.
MICROSANDBOX_API SandboxStatus parse_sandbox_status(std::string_view text);

inline constexpr std::chrono::milliseconds kDefaultConnectTimeout{10'000};
inline constexpr std::chrono::milliseconds kDefaultStopTimeout{10'000};

struct PingResult {
    std::string name;
    std::chrono::nanoseconds latency{0};  // round trip to the agent in the guest
};

struct TouchResult {
    std::string name;
    std::uint64_t activity_seq = 0;
};

// How a sandbox process ended, as its owner saw it: one of the two is set.
struct ProcessExit {
    std::optional<int> exit_code;
    std::optional<int> signal;
};

struct StopResult {
    std::string name;
    SandboxStatus status = SandboxStatus::kStopped;
    std::optional<int> exit_code;
    std::optional<int> signal;
    Timestamp observed_at;
    // "owned process wait", "refreshed backend state" or "ephemeral cleanup removed persisted state"
    std::string source;
};

struct ListOptions {
    std::optional<std::uint32_t> limit;  // 1 to 100, else Error{kInvalidConfig}; default 20
    std::optional<std::string> cursor;   // SandboxPage::next_cursor of the page before
    std::vector<std::pair<std::string, std::string>> labels;  // all must match exactly
};

struct RestartOptions {
    bool force = false;  // kill instead of stop
    std::chrono::milliseconds timeout = kDefaultStopTimeout;
    bool detached = true;
};

class Sandbox;

// A sandbox as the database described it at one moment: no connection, never refreshed by itself. Operations check that
// the name still belongs to the same sandbox: Error{kSandboxReplaced} otherwise, Error{kSandboxNotFound} when it is gone.
class MICROSANDBOX_API SandboxHandle {
  public:
    struct Impl;  // incomplete outside the library

    SandboxHandle(const SandboxHandle&);
    SandboxHandle(SandboxHandle&&) noexcept;
    SandboxHandle& operator=(const SandboxHandle&);
    SandboxHandle& operator=(SandboxHandle&&) noexcept;
    ~SandboxHandle();

    std::string id() const;  // "local:<row id>"
    const std::string& name() const noexcept;
    SandboxStatus status() const noexcept;
    bool ephemeral() const noexcept;
    // Documents as stored (spec/state.md section 9); they may be unreadable JSON if somebody damaged the database.
    const std::string& config_json() const noexcept;
    const std::optional<std::string>& active_config_json()
        const noexcept;  // of the running machine
    const std::optional<Timestamp>& created_at() const noexcept;
    const std::optional<Timestamp>& updated_at() const noexcept;

    SandboxHandle refresh() const;

    // As the functions of the same name in Sandbox.
    Sandbox start(std::stop_token stop = {}) const;
    Sandbox start_detached(std::stop_token stop = {}) const;
    // Running or draining, else Error{kSandboxNotRunning} "sandbox 'x' is not running (status: Stopped)".
    Sandbox connect(std::chrono::milliseconds timeout = kDefaultConnectTimeout,
                    std::stop_token stop = {}) const;
    // Running: connect. Starting: wait, then connect. Created, stopped, crashed: start. Draining, paused: error.
    Sandbox connect_or_start(bool detached = false, std::stop_token stop = {}) const;
    PingResult ping(std::stop_token stop = {}) const;
    TouchResult touch(std::stop_token stop = {}) const;
    void stop(std::chrono::milliseconds timeout = kDefaultStopTimeout,
              std::stop_token cancel = {}) const;
    void request_stop() const;
    void kill(std::chrono::milliseconds timeout = std::chrono::seconds(5),
              std::stop_token cancel = {}) const;
    void drain() const;
    StopResult wait_until_stopped(std::stop_token stop = {}) const;
    SandboxHandle wait_for_status(SandboxStatus status, std::stop_token stop = {}) const;
    void remove(std::stop_token stop = {}) const;
    Sandbox restart(const RestartOptions& options = {}, std::stop_token stop = {}) const;
    // Stop (force: kill), then remove.
    void destroy(bool force = false, std::chrono::milliseconds timeout = kDefaultStopTimeout,
                 std::stop_token cancel = {}) const;

    std::vector<LogEntry> logs(const LogQuery& query = {}) const;
    LogStream log_stream(const LogStreamOptions& options = {}) const;

  private:
    friend class Sandbox;
    friend struct HandleAccess;
    explicit SandboxHandle(std::shared_ptr<const Impl> impl);
    std::shared_ptr<const Impl> impl_;
};

struct SandboxPage {
    std::vector<SandboxHandle> sandboxes;  // newest first
    std::optional<std::string> next_cursor;
};

// A running sandbox this process talks to. Copies share one object.
class MICROSANDBOX_API Sandbox {
  public:
    struct Impl;  // incomplete outside the library

    static SandboxBuilder builder(std::string name);

    // Boots a sandbox that exists and is created, stopped or crashed, with its stored configuration; the result owns
    // it. Errors: kSandboxNotFound; kSandboxStillRunning "cannot start sandbox 'n': already running"; kBootStart.
    static Sandbox start(const std::string& name, std::stop_token stop = {});
    static Sandbox start_detached(const std::string& name, std::stop_token stop = {});
    // Error{kSandboxNotFound} when there is none.
    static SandboxHandle get(const std::string& name);
    static SandboxPage list(const ListOptions& options = {});
    // Every sandbox that carries all the labels, newest first, in one query.
    static std::vector<SandboxHandle> list_all(
        const std::vector<std::pair<std::string, std::string>>& labels = {});
    static Sandbox connect(const std::string& name,
                           std::chrono::milliseconds timeout = kDefaultConnectTimeout,
                           std::stop_token stop = {});
    // Only stopped sandboxes: Error{kSandboxStillRunning} "cannot remove sandbox 'n': still running" otherwise.
    static void remove(const std::string& name, std::stop_token stop = {});
    // Logs need only the sandbox's log directory, no row. Error{kSandboxNotFound} without it.
    static std::vector<LogEntry> logs(const std::string& name, const LogQuery& query = {});
    static LogStream log_stream(const std::string& name, const LogStreamOptions& options = {});
    // Why the last start failed; nullopt when it did not (or nothing readable was left).
    static std::optional<BootError> boot_error(const std::string& name);

    Sandbox(const Sandbox&);
    Sandbox(Sandbox&&) noexcept;
    Sandbox& operator=(const Sandbox&);
    Sandbox& operator=(Sandbox&&) noexcept;
    ~Sandbox();

    std::string id() const;  // "local:<row id>"
    const std::string& name() const noexcept;
    // The configuration this object was made with.
    const std::string& config_json() const noexcept;
    SandboxHandle handle() const;  // re-read now
    SandboxStatus status() const;  // re-read now

    // --- commands -----------------------------------------------------------------------------------------------
    // `command` is not a shell line. A non-zero exit is not an error; ExecFailedError when it cannot be started,
    // ExecTimeoutError after options.timeout (the process is killed first). Each running command has its own
    // connection to the guest.
    ExecOutput exec(const std::string& command, const std::vector<std::string>& args = {},
                    const ExecOptions& options = {}, std::stop_token stop = {}) const;
    ExecHandle exec_stream(const std::string& command, const std::vector<std::string>& args = {},
                           const ExecOptions& options = {}, std::stop_token stop = {}) const;
    // <configured shell> -c <script>
    ExecOutput shell(const std::string& script, const ExecOptions& options = {},
                     std::stop_token stop = {}) const;
    ExecHandle shell_stream(const std::string& script, const ExecOptions& options = {},
                            std::stop_token stop = {}) const;
    // entrypoint + cmd; Error{kNoDefaultCommand} when there is none. `args` given replaces cmd.
    ExecOutput exec_default(const std::optional<std::vector<std::string>>& args = {},
                            const ExecOptions& options = {}, std::stop_token stop = {}) const;
    ExecHandle exec_default_stream(const std::optional<std::vector<std::string>>& args = {},
                                   const ExecOptions& options = {},
                                   std::stop_token stop = {}) const;
    // What exec_default would run.
    std::vector<std::string> default_command(
        const std::optional<std::vector<std::string>>& args = {}) const;
    std::string shell_path() const;  // configured shell, else /bin/sh

    // Runs the command on this process's terminal (standard input must be one: Error{kTerminal} otherwise): raw mode,
    // the guest's terminal follows the size of ours. Returns the exit code, or -1 on detach, end of input or loss of
    // the connection; the command is then killed by the guest. The terminal is restored on every way out, also when a
    // signal ends this process. One attach at a time per process.
    int attach(const std::string& command, const std::vector<std::string>& args = {},
               const AttachOptions& options = {}, std::stop_token stop = {}) const;
    int attach_default(const AttachOptions& options = {}, std::stop_token stop = {}) const;
    int attach_shell(const AttachOptions& options = {}, std::stop_token stop = {}) const;

    SandboxFs fs() const;
    PingResult ping(std::stop_token stop = {}) const;
    TouchResult touch(std::stop_token stop = {}) const;  // resets the idle timer

    // --- ending it ----------------------------------------------------------------------------------------------
    // Asks the guest to shut down, waits `timeout`, then kills and waits 5 s more; Error{kRuntime} "timed out observing
    // stopped state for sandbox 'n'" after that. timeout 0 kills at once. Stopped already: success.
    void stop(std::chrono::milliseconds timeout = kDefaultStopTimeout,
              std::stop_token cancel = {}) const;
    void request_stop() const;  // only asks
    // SIGKILL to the sandbox process; waits for its end.
    void kill(std::chrono::milliseconds timeout = std::chrono::seconds(5),
              std::stop_token cancel = {}) const;
    void drain() const;  // SIGUSR1: the machine stops at once, its rows are kept in order
    // Owners only, else Error{kRuntime} "cannot wait: not the lifecycle owner".
    ProcessExit wait(std::stop_token stop = {}) const;
    ProcessExit stop_and_wait(std::chrono::milliseconds timeout = kDefaultStopTimeout,
                              std::stop_token cancel = {}) const;
    // Anybody; without limit.
    StopResult wait_until_stopped(std::stop_token stop = {}) const;
    Sandbox restart(const RestartOptions& options = {}, std::stop_token stop = {}) const;
    void remove_persisted(std::stop_token stop = {}) const;

    // The image's own init (systemd, s6) was given the command of this launch (SandboxBuilder::foreground, startup); its
    // output is in the system log, and the sandbox ends with it.
    bool init_owns_command() const noexcept;
    bool owns_lifecycle() const noexcept;
    // Gives up ownership: the sandbox keeps running when this process ends. No effect on non-owners.
    void detach() const;

    std::vector<LogEntry> logs(const LogQuery& query = {}) const;
    LogStream log_stream(const LogStreamOptions& options = {}) const;

  private:
    friend class SandboxBuilder;
    friend class SandboxHandle;
    friend struct SandboxAccess;
    explicit Sandbox(std::shared_ptr<Impl> impl);
    std::shared_ptr<Impl> impl_;
};

}  // namespace microsandbox
