#include "sdk/launcher.h"

#include <microsandbox/error.h>

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "base/error.h"
#include "base/log.h"
#include "base/process.h"
#include "base/text.h"
#include "base/time.h"
#include "contract/boot_error.h"
#include "contract/process_args.h"
#include "protocol/codec.h"
#include "sdk/launch_document.h"
#include "sdk/lifecycle.h"
#include "sdk/oci_root.h"
#include "state/ipc_paths.h"
#include "state/locks.h"
#include "state/reconcile.h"
#include "state/sandbox_rows.h"
#include "state/validation.h"

namespace msb::sdk {

namespace {

// Back-off between attempts to reach a socket that is not bound yet.
constexpr std::chrono::milliseconds kFirstBackoff{1};
constexpr std::chrono::milliseconds kLastBackoff{10};
// How long a process whose socket was closed may take to exit.
constexpr std::chrono::seconds kExitGrace{5};
constexpr std::size_t kMaxStartupLine = 64u << 10;
// Disk locks are inherited under numbers above those of the launch contract.
constexpr int kFirstDiskLockFd = 100;

UniqueFd document_fd(const std::string& document) {
    UniqueFd fd(::memfd_create("msb-launch", MFD_CLOEXEC));
    if (!fd) throw_os_error(errno, "create launch document");
    if (int err = write_all(fd.get(), document)) throw_os_error(err, "write launch document");
    if (::lseek(fd.get(), 0, SEEK_SET) != 0) throw_os_error(errno, "rewind launch document");
    return fd;
}

// "30", "0.05"
std::string seconds_text(std::chrono::milliseconds time) {
    std::string text = display_duration(std::chrono::nanoseconds(time).count());
    if (time < std::chrono::seconds(1))
        text = fmt::format("{}", static_cast<double>(time.count()) / 1000);
    if (text.ends_with('s')) text.pop_back();
    return text;
}

// The scripts the guest finds under /.msb/scripts; those of an earlier configuration go.
void write_scripts(const std::filesystem::path& directory, const state::SandboxConfig& config) {
    std::filesystem::create_directories(directory);
    for (const auto& entry : std::filesystem::directory_iterator(directory)) {
        if (!config.runtime.scripts.contains(entry.path().filename().string()))
            std::filesystem::remove_all(entry.path());
    }
    for (const auto& [name, body] : config.runtime.scripts) {
        UniqueFd fd(::open((directory / name).c_str(),
                           O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0755));
        if (!fd) throw_os_error(errno, "write script " + name);
        if (int err = write_all(fd.get(), body)) throw_os_error(err, "write script " + name);
        if (::fchmod(fd.get(), 0755) != 0) throw_os_error(errno, "write script " + name);
    }
}

// What an image's init is given to run instead of a workload of the launch's own. Never stored.
using InitCommand = std::optional<std::vector<std::string>>;

// One start of one row: the pieces in the order they come into being, and how to take them back.
class Launch {
  public:
    Launch(const std::shared_ptr<LocalBackend>& backend, std::int64_t id,
           state::SandboxConfig config, InitCommand init_command, const LaunchOptions& options,
           const Cancel& cancel)
        : backend_(backend),
          id_(id),
          config_(std::move(config)),
          init_command_(std::move(init_command)),
          options_(options),
          cancel_(cancel) {}

    // From status Starting to Running. Any failure leaves no process behind and the row Stopped.
    Launched run(std::optional<FileLock> lifecycle) {
        try {
            std::filesystem::path binary = find_runtime_binary(*backend_, options_.runtime_path);
            if (!lifecycle) lifecycle = state::lock_lifecycle(backend_->roots, config_.name);
            prepare_directories();
            spawn(binary, *lifecycle);
            read_startup_line();
            connect();
            finish();
        } catch (...) {
            give_up();
            throw;
        }
        return {id_,
                std::move(config_),
                std::move(process_),
                std::move(watchdog_),
                std::move(client_),
                init_command_.has_value()};
    }

  private:
    std::filesystem::path log_dir() const { return backend_->paths.sandbox_logs(config_.name); }

    void prepare_directories() {
        state::remove_endpoints_and_fallback(state::IpcPaths::of(backend_->roots, config_.name));
        std::filesystem::create_directories(log_dir());
        grow_root_disk(*backend_, config_);
        write_scripts(backend_->paths.sandbox_scripts(config_.name), config_);
        contract::remove_boot_error(log_dir());
    }

    void spawn(const std::filesystem::path& binary, const FileLock& lifecycle) {
        std::vector<FileLock> disks = lock_disks(config_);
        const int slot = state::claim_network_slot(backend_->database(), id_);
        UniqueFd document = document_fd(contract::write_launch_config(launch_document(slot)));

        PipeFds startup_pipe = make_pipe();
        PipeFds watchdog;
        UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
        if (!null) throw_os_error(errno, "/dev/null");
        SpawnOptions child;
        child.argv = contract::build_process_args(process_args(config_, id_, options_.detached));
        child.argv.insert(child.argv.begin(), binary.string());
        child.fds = {{null.get(), STDIN_FILENO},
                     {document.get(), contract::kConfigFd},
                     {lifecycle.fd(), contract::kLifecycleLockFd}};
        if (options_.detached) {
            child.fds.insert(child.fds.end(), {{null.get(), STDOUT_FILENO},
                                               {null.get(), STDERR_FILENO},
                                               {startup_pipe.write.get(), contract::kStartupFd}});
            child.new_session = true;
            child.ignore_sighup = true;
        } else {
            // Ctrl-C ends us, and the watchdog then ends the sandbox in good order; the signal itself would end it without
            // any clean-up.
            child.new_process_group = true;
            watchdog = make_pipe();
            child.fds.insert(child.fds.end(), {{startup_pipe.write.get(), STDOUT_FILENO},
                                               {watchdog.read.get(), contract::kParentWatchFd}});
        }
        int next = kFirstDiskLockFd;
        for (const FileLock& disk : disks)
            child.fds.emplace_back(disk.fd(), next++);
        process_ = std::make_shared<ChildProcess>(msb::spawn(child));
        startup_ = std::move(startup_pipe.read);
        watchdog_ = std::move(watchdog.write);
    }

    contract::LaunchConfig launch_document(int slot) const {
        if (!init_command_)
            return launch_config(
                *backend_, config_, slot,
                options_.startup ? default_command(config_) : std::vector<std::string>{});
        state::SandboxConfig launched = config_;
        hand_command_to_init(*launched.init, *init_command_);
        return launch_config(*backend_, launched, slot, {});
    }

    // `{"pid":P}` within 30 s, before anything slow happens in the process.
    void read_startup_line() {
        const Deadline deadline = deadline_in(options_.startup_line_timeout);
        std::string line;
        char c = 0;
        while (line.size() < kMaxStartupLine) {
            if (wait_for(startup_.get(), POLLIN, deadline, cancel_) == Ready::kTimeout)
                throw Error(ErrorCode::kRuntime,
                            "sandbox startup timeout: no JSON received within " +
                                seconds_text(options_.startup_line_timeout) + " seconds");
            ssize_t n = ::read(startup_.get(), &c, 1);
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0 || c == '\n') break;
            line.push_back(c);
        }
        const std::optional<pid_t> pid = contract::parse_startup_line(line);
        if (!pid)
            throw Error(ErrorCode::kRuntime,
                        "sandbox process exited (" + exit_text() +
                            ") before sending startup info (line: " + msb::quoted(line) +
                            ", check stderr above for details)");
        if (*pid != process_->pid())
            throw Error(ErrorCode::kRuntime, "sandbox startup PID mismatch: spawned pid " +
                                                 std::to_string(process_->pid()) +
                                                 ", startup pid " + std::to_string(*pid) +
                                                 " (status: " + running_text() + ")");
    }

    // The socket is bound before the machine boots; the handshake arrives when the guest is ready, so most of the time
    // is spent in one read.
    void connect() {
        const Deadline deadline =
            deadline_in(std::chrono::seconds(contract::kAgentReadyTimeoutSecs));
        const std::filesystem::path socket =
            state::IpcPaths::of(backend_->roots, config_.name).agent;
        std::chrono::milliseconds backoff = kFirstBackoff;
        for (;;) {
            if (process_->poll()) throw_boot_failure();
            bool handshaking = false;
            try {
                std::error_code missing;
                handshaking = std::filesystem::exists(socket, missing);
                if (handshaking) {
                    client_ = AgentClient::connect(socket, deadline, cancel_);
                    return;
                }
            } catch (const Error& error) {
                if (error.code() == ErrorCode::kCancelled) throw;
                if (Clock::now() >= *deadline)
                    throw Error(ErrorCode::kRuntime,
                                "sandbox agent was not ready within " +
                                    std::to_string(contract::kAgentReadyTimeoutSecs) +
                                    " seconds: " + error.detail());
            }
            if (Clock::now() >= *deadline)
                throw Error(ErrorCode::kRuntime,
                            "sandbox agent was not ready within " +
                                std::to_string(contract::kAgentReadyTimeoutSecs) + " seconds");
            // A closed handshake nearly always means that the process is on its way out.
            wait_for(process_->exit_fd(), POLLIN, deadline_in(backoff), cancel_);
            backoff = std::min(backoff * 2, kLastBackoff);
        }
    }

    void finish() {
        contract::remove_boot_error(log_dir());
        const std::string active = state::write_sandbox_config(state::persisted_form(config_));
        state::Database& database = backend_->database();
        if (!state::mark_running(database, id_, active)) {
            // A short startup command may have ended by itself already; anything else took the row away from us.
            auto row = state::find_sandbox(database, id_);
            if (row && !state::is_terminal(row->status))
                throw Error(ErrorCode::kRuntime,
                            "sandbox " + msb::quoted(config_.name) + " changed to " +
                                std::string(to_string(row->status)) + " while it was starting");
            if (!row && !config_.lifecycle.ephemeral)
                throw Error(ErrorCode::kSandboxNotFound, config_.name);
            return;
        }
        check_workdir();
    }

    void check_workdir() {
        if (!config_.runtime.workdir) return;
        const std::string& workdir = *config_.runtime.workdir;
        auto reply = client_->request<protocol::FsResponse>(
            protocol::FsRequest{protocol::fs::Stat{workdir, true}},
            deadline_in(kAgentConnectTimeout), cancel_);
        if (!reply.ok)
            throw Error(ErrorCode::kInvalidConfig, "workdir does not exist in guest: " + workdir);
        const auto* entry = reply.data ? std::get_if<protocol::FsEntry>(&*reply.data) : nullptr;
        if (entry == nullptr || entry->kind != protocol::FsEntryKind::kDir)
            throw Error(ErrorCode::kInvalidConfig,
                        "workdir is not a directory in guest: " + workdir);
    }

    std::string exit_text() {
        auto status = process_->wait(deadline_in(kExitGrace), cancel_);
        return status ? exit_status_text(*status) : "still running";
    }
    std::string running_text() {
        auto status = process_->poll();
        return status ? exit_status_text(*status) : "still running";
    }

    [[noreturn]] void throw_boot_failure() {
        contract::BootError record;
        if (auto written = contract::read_boot_error(log_dir())) {
            record = std::move(*written);
        } else {
            record.time = rfc3339_millis(wall_clock_ns());
            record.stage = "other";
            record.message =
                "sandbox process exited (" + exit_text() + ") before agent relay became available";
        }
        throw microsandbox::BootStartError(
            config_.name, {record.time, record.stage, record.errno_value, record.message});
    }

    void give_up() noexcept {
        try {
            client_.reset();
            if (process_) {
                process_->send_signal(SIGKILL);
                process_->wait(deadline_in(kExitGrace), Cancel{});
                state::remove_endpoints_and_fallback(
                    state::IpcPaths::of(backend_->roots, config_.name));
            }
        } catch (const std::exception& error) {
            log(LogLevel::kWarn, "launcher", "cleaning up after {}: {}", config_.name,
                error.what());
        }
        try {
            state::mark_start_failed(backend_->database(), id_);
            // Nothing has run, so there are no logs to keep; after a failed boot the next sweep removes it.
            if (config_.lifecycle.ephemeral && !process_)
                state::clean_up_ephemeral_self(backend_->database(), backend_->roots, id_);
        } catch (const std::exception& error) {
            log(LogLevel::kWarn, "launcher", "marking {} stopped: {}", config_.name, error.what());
        }
    }

    std::shared_ptr<LocalBackend> backend_;
    std::int64_t id_;
    state::SandboxConfig config_;
    InitCommand init_command_;
    const LaunchOptions& options_;
    const Cancel& cancel_;
    std::shared_ptr<ChildProcess> process_;
    UniqueFd startup_;
    UniqueFd watchdog_;
    std::shared_ptr<AgentClient> client_;
};

}  // namespace

namespace {

// Removes the directory of a sandbox whose creation failed before it got a row.
class PendingDirectory {
  public:
    explicit PendingDirectory(std::filesystem::path path) : path_(std::move(path)) {}
    PendingDirectory(const PendingDirectory&) = delete;
    PendingDirectory& operator=(const PendingDirectory&) = delete;
    ~PendingDirectory() {
        std::error_code ignored;
        if (!path_.empty()) std::filesystem::remove_all(path_, ignored);
    }
    void keep() { path_.clear(); }

  private:
    std::filesystem::path path_;
};

// The image's init takes the command of a background or attached launch; an attached one may have none.
InitCommand command_for_init(const state::SandboxConfig& config, const ImageInit& init,
                             const LaunchOptions& options) {
    if (!init.owns_command || !(options.startup || options.foreground)) return std::nullopt;
    try {
        return default_command(config, options.foreground_command);
    } catch (const Error& error) {
        if (error.code() != ErrorCode::kNoDefaultCommand) throw;
        return std::vector<std::string>{};
    }
}

}  // namespace

Launched create_sandbox(const std::shared_ptr<LocalBackend>& backend, state::SandboxConfig config,
                        const LaunchOptions& options, const Cancel& cancel) {
    state::validate_for_create(config, backend->roots);
    require_runnable(config);
    FileLock creation = lock_creation(*backend, config.name, cancel);
    state::Database& database = backend->database();
    const auto take_name = [&] {
        state::prepare_create_target(database, backend->roots, config.name,
                                     {options.replace, options.replace_grace});
    };
    // A name that is taken is told before anything is downloaded; what is to be replaced stays until that has succeeded.
    if (!options.replace) take_name();
    std::optional<PulledRoot> root = pull_root(*backend, config, options, cancel);
    InitCommand init_command;
    if (root) {
        state::validate_for_create(config, backend->roots);  // the image had its say
        init_command = command_for_init(config, root->init, options);
    }
    if (options.startup && !init_command)
        default_command(config);  // its errors come before anything is written
    if (options.replace) take_name();
    PendingDirectory directory(root ? backend->paths.sandbox_dir(config.name)
                                    : std::filesystem::path());
    if (root) create_root_disk(*backend, config, *root);
    const std::string document = state::write_sandbox_config(state::persisted_form(config));
    const std::int64_t id = state::insert_starting(database, config.name, document,
                                                   config.lifecycle.ephemeral, config.labels);
    directory.keep();
    // Upstream protects the image only once the sandbox has booted.
    if (root) state::replace_rootfs(database, id, *config.manifest_digest);
    root.reset();
    return Launch(backend, id, std::move(config), std::move(init_command), options, cancel)
        .run(std::nullopt);
}

Launched start_sandbox(const std::shared_ptr<LocalBackend>& backend, const std::string& name,
                       std::optional<std::int64_t> expected_id, const LaunchOptions& options,
                       const Cancel& cancel) {
    FileLock creation = lock_creation(*backend, name, cancel);
    state::Database& database = backend->database();
    if (expected_id) state::get_sandbox_with_identity(database, name, *expected_id);
    state::SandboxConfig config;
    state::StartClaim claim =
        state::claim_start(database, backend->roots, name, [&](const state::SandboxRow& row) {
            config = state::parse_sandbox_config(row.config);
            if (backend->config.deployment_profile)
                config.deployment_profile = *backend->config.deployment_profile;
            state::validate_for_create(config, backend->roots, state::NameOrigin::kStored);
            require_runnable(config);
            check_root_files(*backend, config);
        });
    // A sandbox of upstream's that never booted has no such row yet.
    if (config.manifest_digest)
        state::replace_rootfs(database, claim.row.id, *config.manifest_digest);
    return Launch(backend, claim.row.id, std::move(config), std::nullopt, options, cancel)
        .run(std::move(claim.lifecycle));
}

}  // namespace msb::sdk
