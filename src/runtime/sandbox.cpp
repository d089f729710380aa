#include "runtime/sandbox.h"

#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <optional>

#include "base/error.h"
#include "base/log.h"
#include "base/process.h"
#include "base/time.h"
#include "contract/boot_error.h"
#include "runtime/boot_diagnosis.h"
#include "runtime/confinement.h"
#include "runtime/control_server.h"
#include "runtime/endpoints.h"
#include "runtime/event_loop.h"
#include "runtime/exec_log.h"
#include "runtime/exit_observer.h"
#include "runtime/heartbeat.h"
#include "runtime/lifecycle.h"
#include "runtime/machine_plan.h"
#include "runtime/maintenance.h"
#include "runtime/metrics.h"
#include "runtime/placement.h"
#include "runtime/relay_server.h"
#include "runtime/runtime_log.h"
#include "runtime/runtime_port.h"
#include "runtime/startup_command.h"
#include "runtime/watchdog.h"
#include "state/database.h"
#include "state/reconcile.h"
#include "state/run_rows.h"
#include "vmm/machine.h"
#include "vmm/parts.h"

namespace msb::runtime {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

constexpr std::string_view kLog = "msb::sandbox";
constexpr auto kReadyTimeout = std::chrono::seconds(contract::kAgentReadyTimeoutSecs);
// spec/sandbox-process.md section 6: at once, every minute, and when the wall clock jumped (the host slept).
constexpr auto kClockPoll = 2s;
constexpr auto kClockPeriod = 60s;
constexpr auto kClockGap = 6s;
// A guest that beats faster than once per second does not get more files written.
constexpr auto kBeatInterval = 500ms;
// An engine whose ends of the ports are closed is about to exit; one that does not is ended.
constexpr auto kEngineExitGrace = 2s;

std::string detail_of(const std::exception& error) {
    const auto* ours = dynamic_cast<const Error*>(&error);
    return ours ? ours->detail() : error.what();
}

class Sandbox final : public RelayObserver, public ControlTarget {
  public:
    Sandbox(Inputs inputs, const RuntimeLog& log);
    int run();
    bool maintenance_finished() const { return maintenance_.finished(); }

  private:
    // Start sequence, in order.
    void boot();
    void prepare_directories();
    void claim_endpoints_and_row();
    void start_machine();
    void connect_guest(UniqueFd agent, UniqueFd runtime);
    void start_services();
    int fail_boot(const std::string& message);

    // RelayObserver
    void on_ready(const protocol::Ready& ready) override;
    void on_boot_failure(const std::string& reason) override;
    void on_shutdown_requested() override { lifecycle_.drain_by_client(); }
    void on_client_flow(std::uint32_t start, std::uint32_t end, bool paused) override {
        runtime_port_->send_flow(start, end, paused);
    }

    // ControlTarget
    bool memory_resizable() const override {
        return inputs_.args.effective_max_memory_mib() > inputs_.args.memory_mib;
    }
    bool cpu_resizable() const override {
        return inputs_.args.effective_max_vcpus() > inputs_.args.vcpus;
    }
    ControlMemory memory() override;
    ControlCpu cpu() override;
    void set_memory(std::uint64_t total_mib) override { machine_->set_memory_target(total_mib); }
    void set_cpus(unsigned online) override;

    void on_heartbeat(const protocol::RuntimeHeartbeat& beat);
    void on_vcpus_bound(const std::vector<bool>& bound);
    void on_machine_event();
    void end_machine();
    void sync_clock();
    void finish();
    bool report_early_exit();

    Inputs inputs_;
    const contract::LaunchConfig& config_ = inputs_.config;
    const RuntimeLog& log_;
    EventLoop loop_;
    Lifecycle lifecycle_;
    Endpoints endpoints_;
    std::optional<state::Database> database_;
    std::optional<std::int64_t> run_id_;
    Placement placement_;
    std::optional<SignalWatch> signals_;
    UniqueFd listener_;
    std::optional<ExecLog> exec_log_;
    std::optional<Metrics> metrics_;
    std::unique_ptr<vmm::Machine> machine_;
    std::optional<vmm::MachineExit> exit_;
    std::unique_ptr<GuestChannel> guest_;
    std::unique_ptr<RuntimePort> runtime_port_;
    std::unique_ptr<Relay> relay_;
    std::unique_ptr<RelayServer> server_;
    std::unique_ptr<ControlServer> control_;
    std::unique_ptr<StartupCommandRunner> startup_;
    std::unique_ptr<FdWatch> machine_watch_;
    std::unique_ptr<Watchdog> watchdog_;
    Maintenance maintenance_;
    IdleTracker idle_;
    Timer idle_timer_, ready_timer_, duration_timer_, clock_timer_, engine_timer_;
    IdleTracker::Clock::time_point beat_written_{};
    std::int64_t clock_polled_ns_ = 0;  // wall clock of the last poll
    std::int64_t clock_sent_ns_ = 0;    // monotonic
    unsigned requested_cpus_ = 1, actual_cpus_ = 1;
};

std::optional<std::chrono::seconds> seconds_of(std::optional<std::uint64_t> value) {
    // A count beyond a century would overflow the clock and can only mean "never".
    constexpr std::uint64_t kCentury = 3'155'760'000;
    if (!value) return std::nullopt;
    return std::chrono::seconds(std::min(*value, kCentury));
}

// Only a layered root has an upper image whose size on the host says something (spec/metrics.md section 6.1).
std::optional<fs::path> layered_upper(const contract::LaunchConfig& config) {
    const auto& root = config.bootstrap.block_root;
    return root && std::holds_alternative<protocol::OciErofsRoot>(*root) ? config.rootfs.upper
                                                                         : std::nullopt;
}

bool hands_off_init(const contract::LaunchConfig& config) {
    return config.init_path.has_value() || config.bootstrap.handoff_init.has_value();
}

Sandbox::Sandbox(Inputs inputs, const RuntimeLog& log)
    : inputs_(std::move(inputs)),
      log_(log),
      lifecycle_(loop_,
                 flush_window(::getenv("MSB_SHUTDOWN_FLUSH_TIMEOUT_MS"), hands_off_init(config_)),
                 {.ask_guest = [this] { relay_->send_shutdown(); },
                  .end_machine = [this] { end_machine(); }}),
      endpoints_(config_, inputs_.args.name),
      idle_(seconds_of(config_.idle_timeout_secs)),
      idle_timer_(loop_,
                  [this] {
                      if (idle_.idle(IdleTracker::Clock::now())) lifecycle_.drain(Cause::kIdle);
                  }),
      ready_timer_(
          loop_,
          [this] { on_boot_failure("agent relay: timed out waiting for core.ready from agentd"); }),
      duration_timer_(loop_, [this] { lifecycle_.end_now(Cause::kMaxDuration); }),
      clock_timer_(loop_, [this] { sync_clock(); }),
      engine_timer_(loop_, [this] { end_machine(); }) {
    requested_cpus_ = actual_cpus_ = inputs_.args.vcpus;
}

int Sandbox::run() {
    try {
        boot();
    } catch (const std::exception& error) {
        return fail_boot(error.what());
    }
    try {
        loop_.run();
    } catch (const std::exception& error) {
        log(LogLevel::kError, kLog, "event loop: {}", error.what());
        exit_ = vmm::MachineExit{.detail = error.what()};
        machine_->kill();
    }
    finish();
    return lifecycle_.cause() ? 0 : exit_->exit_code;
}

// --- start ------------------------------------------------------------------------------------------------------

void Sandbox::boot() {
    prepare_directories();
    claim_endpoints_and_row();
    placement_.plan(inputs_, *database_, *run_id_);
    endpoints_.publish_agent();
    exec_log_.emplace(config_.log_dir);
    metrics_.emplace(loop_, config_.metrics, *run_id_, inputs_.args.effective_max_vcpus(),
                     layered_upper(config_));
    start_machine();
    start_services();
}

void Sandbox::prepare_directories() {
    const auto make = [](const fs::path& directory) {
        std::error_code error;
        fs::create_directories(directory, error);
        if (error) throw_os_error(error.value());
    };
    make(config_.runtime_dir);
    make(config_.runtime_dir / "scripts");
    if (config_.network_enabled()) make(config_.runtime_dir / "tls");
    remove_heartbeat(config_.runtime_dir);
}

void Sandbox::claim_endpoints_and_row() {
    // From here on a polite signal must not leave a row behind: it is handled once the loop runs.
    signals_.emplace(loop_, std::initializer_list<int>{SIGTERM, SIGUSR1}, [this](int signal) {
        log(LogLevel::kInfo, kLog, "signal {}: ending the machine", signal);
        lifecycle_.end_now(std::nullopt);
    });
    listener_ = endpoints_.bind_agent();
    try {
        database_ = state::Database::open_runtime(config_.db_path);
    } catch (const std::exception& error) {
        throw Error(ErrorCode::kCustom, "database connect: " + detail_of(error));
    }
    try {
        run_id_ = state::insert_run(*database_, inputs_.args.sandbox_id, ::getpid());
    } catch (const std::exception& error) {
        throw Error(ErrorCode::kCustom, "insert run: " + detail_of(error));
    }
}

void Sandbox::start_machine() {
    check_supported(config_);
    if (config_.network_enabled())
        log(LogLevel::kInfo, kLog,
            "networking is not available in this version: the sandbox has no network device");
    vmm::Parts parts;
    try {
        parts = vmm::find_parts(self_executable());
    } catch (const Error& error) {
        throw Error(ErrorCode::kCustom, "build VM: " + error.detail());
    }
    vmm::MachineConfig machine = plan_machine(inputs_, parts);
    machine.vcpu_processors = placement_.processors();
    machine.on_vcpus_bound = [this](const std::vector<bool>& bound) { on_vcpus_bound(bound); };
    machine.memory_node = placement_.memory_node();
    machine.memory_node_only = placement_.memory_strict();
    auto [agent_host, agent_engine] = make_socketpair();
    auto [runtime_host, runtime_engine] = make_socketpair();
    machine.ports.push_back({.name = "agent", .engine_end = std::move(agent_engine)});
    machine.ports.push_back({.name = "runtime", .engine_end = std::move(runtime_engine)});
    machine.engine_stderr = log_.writer();
    connect_guest(std::move(agent_host), std::move(runtime_host));

    vmm::EngineOptions options;
    options.engine = parts.engine;
    options.verdict_file = endpoints_.roots().run.parent_path() / "cache" / "accel.json";
    // The lock then lives as long as anything that touches the sandbox's files.
    options.inherited_fds = {inputs_.lifecycle->fd()};
    if (const auto duration = seconds_of(config_.max_duration_secs))
        duration_timer_.start_after(*duration);
    try {
        machine_ = vmm::start_machine(std::move(machine), options);
    } catch (const vmm::DiskError& error) {
        throw Error(ErrorCode::kCustom, disk_failure(inputs_, error));
    } catch (const Error& error) {
        throw Error(ErrorCode::kCustom, "build VM: " + error.detail());
    }
    log(LogLevel::kInfo, kLog, "machine started: engine pid={} accelerator={} ({})",
        machine_->engine_pid(), vmm::to_string(machine_->accelerator()),
        machine_->accelerator_reason());
}

// The bootstrap frame is in the socket before the engine starts: it is the guest's first input.
void Sandbox::connect_guest(UniqueFd agent, UniqueFd runtime) {
    guest_ = std::make_unique<GuestChannel>(
        loop_, std::move(agent), [this] { engine_timer_.start_after(kEngineExitGrace); });
    runtime_port_ = std::make_unique<RuntimePort>(
        loop_, std::move(runtime),
        RuntimePort::Handlers{
            .heartbeat = [this](const protocol::RuntimeHeartbeat& beat) { on_heartbeat(beat); },
            .cpu_state =
                [this](const protocol::RuntimeCpuState& state) { actual_cpus_ = state.online; }});
    relay_ = std::make_unique<Relay>(*guest_, *this, &*exec_log_);
    server_ = std::make_unique<RelayServer>(loop_, *relay_, std::move(listener_));
    guest_->attach(*relay_);
    if (!relay_->send_bootstrap(plan_bootstrap(config_)))
        throw Error(ErrorCode::kCustom, "build VM: the guest configuration does not fit one frame");
}

void Sandbox::start_services() {
    machine_watch_ =
        std::make_unique<FdWatch>(loop_, machine_->event_fd(), [this] { on_machine_event(); });
    machine_watch_->want_read(true);
    ready_timer_.start_after(kReadyTimeout);
    if (cpu_resizable()) machine_->set_cpu_limit(inputs_.args.vcpus);
    if (memory_resizable() || cpu_resizable()) {
        if (auto listener = endpoints_.bind_control())
            control_ = std::make_unique<ControlServer>(loop_, std::move(*listener), *this);
    }
    if (inputs_.watchdog) {
        watchdog_ = std::make_unique<Watchdog>(
            loop_, std::move(inputs_.watchdog),
            Watchdog::Handlers{.parent_gone = [this] { lifecycle_.drain(Cause::kParentExit); },
                               .failed = [this] { lifecycle_.end_now(Cause::kSignal); }});
    }
    maintenance_.start(config_.db_path, endpoints_.roots());
    filter_system_calls();
}

// Everything after the startup line and before the machine runs. The sandbox row is the launcher's to correct.
int Sandbox::fail_boot(const std::string& message) {
    log(LogLevel::kError, kLog, "boot failed: {}", message);
    const std::string line = "sandbox error: " + message + "\n";
    (void)write_all(STDERR_FILENO, line);
    try {
        contract::write_boot_error(config_.log_dir, contract::make_boot_error(message));
    } catch (const std::exception& error) {
        log(LogLevel::kError, kLog, "boot-error.json: {}", error.what());
    }
    machine_watch_.reset();
    machine_.reset();
    if (metrics_)
        metrics_->abandon();
    else
        Metrics::give_back(config_.metrics);
    endpoints_.abandon();
    if (run_id_) {
        try {
            placement_.release(*database_);
            state::fail_run(*database_, *run_id_);
        } catch (const std::exception& error) {
            log(LogLevel::kError, kLog, "mark run failed: {}", error.what());
        }
    }
    return 1;
}

// --- running ----------------------------------------------------------------------------------------------------

void Sandbox::on_ready(const protocol::Ready& ready) {
    ready_timer_.cancel();
    log(LogLevel::kInfo, kLog, "guest ready: agent_version={} init_ms={}", ready.agent_version,
        ready.init_time_ns / 1'000'000);
    exec_log_->system(contract::kStartedMarker);
    metrics_->start(*machine_);
    sync_clock();
    // Not from inside the relay's own call.
    loop_.post([this] {
        if (config_.startup) {
            startup_ = std::make_unique<StartupCommandRunner>(
                loop_, *relay_, *config_.startup, [this](std::string why) {
                    if (!why.empty()) log(LogLevel::kWarn, kLog, "startup command: {}", why);
                    lifecycle_.drain(why.empty() ? std::nullopt
                                                 : std::optional(Cause::kStartupFailed));
                });
            startup_->start();
        }
        server_->start();
    });
}

void Sandbox::on_boot_failure(const std::string& reason) {
    log(LogLevel::kError, kLog, "{}", reason);
    lifecycle_.end_now(Cause::kAgentUnresponsive);
}

void Sandbox::on_heartbeat(const protocol::RuntimeHeartbeat& beat) {
    const auto now = IdleTracker::Clock::now();
    if (now - beat_written_ >= kBeatInterval) {
        write_heartbeat(config_.runtime_dir, beat);
        beat_written_ = now;
    }
    idle_.observe(beat.activity_seq, beat.active_exec_sessions, now);
    if (const auto deadline = idle_.deadline())
        idle_timer_.start_after(*deadline - now);
    else
        idle_timer_.cancel();
}

void Sandbox::sync_clock() {
    const std::int64_t wall = wall_clock_ns(), now = monotonic_ns();
    const auto nanoseconds = [](auto duration) {
        return std::chrono::duration_cast<std::chrono::nanoseconds>(duration).count();
    };
    const bool jumped = std::abs(wall - clock_polled_ns_) >= nanoseconds(kClockGap);
    if (jumped || now - clock_sent_ns_ >= nanoseconds(kClockPeriod)) {
        relay_->send_clock_sync(static_cast<std::uint64_t>(wall));
        clock_sent_ns_ = now;
    }
    clock_polled_ns_ = wall;
    clock_timer_.start_after(kClockPoll);
}

void Sandbox::on_vcpus_bound(const std::vector<bool>& bound) {
    try {
        placement_.activate(*database_, bound);
    } catch (const std::exception& error) {
        log(LogLevel::kWarn, kLog, "record CPU placement: {}", error.what());
    }
}

ControlMemory Sandbox::memory() {
    const vmm::MemoryState state = machine_->memory_state();
    return {state.boot_mib, state.target_mib, state.current_mib, state.max_mib};
}

ControlCpu Sandbox::cpu() {
    return {.possible = inputs_.args.effective_max_vcpus(),
            .requested_online = requested_cpus_,
            .actual_online = actual_cpus_,
            .enforced = machine_->cpu_limit()};
}

void Sandbox::set_cpus(unsigned online) {
    requested_cpus_ = std::clamp(online, 1u, inputs_.args.effective_max_vcpus());
    machine_->set_cpu_limit(requested_cpus_);
    runtime_port_->send_cpu_target(requested_cpus_);
}

// --- end --------------------------------------------------------------------------------------------------------

void Sandbox::end_machine() {
    if (exit_ || !machine_) return;
    machine_->kill();
    on_machine_event();
}

void Sandbox::on_machine_event() {
    if (exit_) return;
    if (auto exit = machine_->poll_exit()) {
        exit_ = std::move(exit);
        log(LogLevel::kInfo, kLog, "machine ended: {} {}", vmm::to_string(exit_->kind),
            exit_->detail);
        loop_.stop();
    }
}

// A machine that ended by itself before its agent was ready: say why, as far as it is known. True when there is a record
// for the launcher to read.
bool Sandbox::report_early_exit() {
    if (relay_->ready() || lifecycle_.cause() || exit_->kind == vmm::ExitKind::kHostRequest)
        return false;
    const std::string message =
        early_exit_message(*exit_, config_.log_dir / contract::kKernelLogFile);
    (void)write_all(STDERR_FILENO, "sandbox error: " + message + "\n");
    contract::write_boot_error(config_.log_dir, contract::make_boot_error(message));
    return true;
}

void Sandbox::finish() {
    bool boot_failed = false;
    try {
        boot_failed = report_early_exit();
    } catch (const std::exception& error) {
        log(LogLevel::kError, kLog, "boot-error.json: {}", error.what());
    }
    server_->stop_accepting();
    control_.reset();
    const auto cause = lifecycle_.cause();
    const int code = cause ? 0 : exit_->exit_code;
    run_exit_steps(
        {.release_cpus = [this] { placement_.release(*database_); },
         .remove_endpoints = [this] { endpoints_.remove(); },
         .finish_rows =
             [&] {
                 state::finish_run(*database_, *run_id_, inputs_.args.sandbox_id,
                                   termination_reason(cause, code), code);
             },
         // The record must outlive this process, and so does what `msb logs` shows beside it; the next
         // sweep takes them.
         .clean_ephemeral =
             [&] {
                 if (boot_failed) return;
                 state::clean_up_ephemeral_self(*database_, endpoints_.roots(),
                                                inputs_.args.sandbox_id);
             },
         .mark_stopped = [this] { exec_log_->system(contract::kStoppedMarker); },
         .retire_metrics = [this] { metrics_->retire(); }});
}

}  // namespace

RunResult run_sandbox(Inputs inputs, const RuntimeLog& log) {
    Sandbox sandbox(std::move(inputs), log);
    const int status = sandbox.run();
    return {.status = status, .threads_left = !sandbox.maintenance_finished()};
}

}  // namespace msb::runtime
