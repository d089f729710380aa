#include "vmm/qemu_machine.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "vmm/accelerator.h"
#include "vmm/command_line.h"
#include "vmm/console.h"
#include "vmm/cpu_limit.h"
#include "vmm/disk_image.h"
#include "vmm/engine_process.h"
#include "vmm/exit_status.h"
#include "vmm/qmp.h"
#include "vmm/usage.h"

namespace msb::vmm {
namespace {

constexpr int kFirstEngineFd = 3;
constexpr std::size_t kReadChunk = 64 * 1024;
// One poll_exit() reads at most this much console, so that a guest that floods it cannot keep the
// caller's loop from its other work.
constexpr int kMaxConsoleReads = 4;
constexpr std::size_t kStderrTail = 4096;
// What the engine says on standard error is for people; a compromised one could write for ever.
constexpr std::uint64_t kMaxForwardedStderr = 1 << 20;
// After the guest has ended, the engine gets this long to close its disk images.
constexpr int kEngineExitSeconds = 5;

constexpr std::uint64_t kMib = 1 << 20;

void watch(int epoll, int fd, std::uint32_t events) {
    epoll_event event{.events = events, .data = {.fd = fd}};
    if (::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event) != 0) throw_os_error(errno, "epoll_ctl");
}

// The engine's descriptor numbers: from 3 up, passing over those inherited under their own.
class FdAllocator {
  public:
    explicit FdAllocator(const std::vector<int>& reserved) : reserved_(reserved) {}
    int next() {
        while (std::ranges::find(reserved_, next_) != reserved_.end())
            ++next_;
        return next_++;
    }

  private:
    const std::vector<int>& reserved_;
    int next_ = kFirstEngineFd;
};

class QemuMachine final : public Machine {
  public:
    QemuMachine(MachineConfig config, EngineStart start);
    ~QemuMachine() override = default;

    pid_t engine_pid() const override { return process_->pid(); }
    Accelerator accelerator() const override { return start_.accelerator; }
    const std::string& accelerator_reason() const override { return start_.accelerator_reason; }
    int event_fd() const override { return epoll_.get(); }
    std::optional<MachineExit> poll_exit() override;
    void set_memory_target(std::uint64_t total_mib) override;
    MemoryState memory_state() override { return memory_; }
    void set_cpu_limit(unsigned online) override;
    unsigned cpu_limit() const override { return cpu_limit_; }
    MachineUsage usage() const override { return engine_usage(engine_pid()); }
    void kill() override;

  private:
    void spawn(MachineConfig& config);
    void send_memory_target();
    void handle_qmp();
    void handle_message(const QmpMessage& message);
    void handle_event(const QmpMessage& message);
    void handle_stopped(std::string_view status);
    bool read_console();
    bool read_stderr();
    void forward_stderr(std::string_view bytes);
    void update_write_interest();
    void guest_has_ended();
    void fail();
    void drain_output();
    void finish(int wait_status);

    EngineStart start_;
    unsigned max_vcpus_;
    MemoryState memory_{};
    UniqueFd epoll_;
    UniqueFd timer_;  // the engine's time to exit is over
    UniqueFd console_;
    UniqueFd engine_stderr_;  // read end of the engine's standard error
    UniqueFd caller_stderr_;
    std::uint64_t forwarded_stderr_ = 0;
    ConsoleLog console_log_;
    ConsoleWatcher console_watcher_;
    std::optional<QmpClient> qmp_;
    bool qmp_write_watched_ = false;
    std::uint64_t status_query_ = 0;
    std::uint64_t cpus_query_ = 0;
    std::vector<std::int64_t> vcpu_threads_;
    unsigned cpu_limit_;
    std::vector<int> vcpu_processors_;
    std::function<void(const std::vector<bool>&)> on_vcpus_bound_;
    ExitEvidence evidence_;
    std::optional<MachineExit> exit_;
    std::unique_ptr<EngineProcess> process_;  // last: dies first
};

QemuMachine::QemuMachine(MachineConfig config, EngineStart start)
    : start_(std::move(start)),
      max_vcpus_(config.max_vcpus),
      memory_{config.memory_mib, config.memory_mib, config.max_memory_mib, config.max_memory_mib},
      epoll_(::epoll_create1(EPOLL_CLOEXEC)),
      timer_(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK)),
      caller_stderr_(std::move(config.engine_stderr)),
      cpu_limit_(config.vcpus),
      vcpu_processors_(std::move(config.vcpu_processors)),
      on_vcpus_bound_(std::move(config.on_vcpus_bound)) {
    if (!epoll_ || !timer_) throw_os_error(errno, "epoll or timer");
    if (!config.console_log.empty())
        console_log_ = ConsoleLog(config.console_log, config.console_log_limit);
    spawn(config);
    set_nonblocking(console_.get(), true);
    set_nonblocking(engine_stderr_.get(), true);
    watch(epoll_.get(), qmp_->fd(), EPOLLIN);
    watch(epoll_.get(), console_.get(), EPOLLIN);
    watch(epoll_.get(), engine_stderr_.get(), EPOLLIN);
    watch(epoll_.get(), process_->pidfd(), EPOLLIN);
    watch(epoll_.get(), timer_.get(), EPOLLIN);
    // Commands are queued now and answered once the engine is up; the guest does not wait for us.
    qmp_->send("qmp_capabilities");
    if (memory_.max_mib > memory_.boot_mib) send_memory_target();
    if (cpu_limit_ < max_vcpus_ || !vcpu_processors_.empty())
        cpus_query_ = qmp_->send("query-cpus-fast");
}

UniqueFd open_disk(const Disk& disk, std::size_t index) {
    UniqueFd fd(::open(disk.path.c_str(), (disk.read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC));
    if (!fd) throw DiskError(index, disk.path, os_error_text(errno), errno);
    return fd;
}

void QemuMachine::spawn(MachineConfig& config) {
    FdAllocator numbers(start_.inherited_fds);
    EngineLayout layout{.kernel = config.kernel, .initramfs = config.initramfs};
    EngineSpawn spawn{.executable = start_.engine, .inherited_fds = start_.inherited_fds};
    const auto give = [&](int fd) {
        const int number = numbers.next();
        spawn.fds.emplace_back(fd, number);
        return number;
    };

    auto [qmp, engine_qmp] = make_socketpair();
    auto [console, engine_console] = make_socketpair();
    layout.qmp_fd = give(engine_qmp.get());
    layout.console_fd = give(engine_console.get());
    for (const SerialPort& port : config.ports)
        layout.port_fds.push_back(give(port.engine_end.get()));

    std::vector<UniqueFd> disks;
    for (std::size_t i = 0; i < config.disks.size(); ++i) {
        const Disk& disk = config.disks[i];
        DiskSource source{.path = std::filesystem::absolute(disk.path)};
        source.block_device = std::filesystem::is_block_file(disk.path);
        if (disk.format != DiskFormat::kVmdk) {
            disks.push_back(open_disk(disk, i));
            source.fd = give(disks.back().get());
        }
        layout.disks.push_back(std::move(source));
    }
    PipeFds output = make_pipe();
    spawn.output = output.write.get();
    spawn.arguments = engine_arguments(config, layout, start_.accelerator);
    process_ = std::make_unique<EngineProcess>(spawn);
    // Our copies of the engine's ends close here: when it dies, every channel reports it.
    config.ports.clear();
    qmp_.emplace(std::move(qmp));
    console_ = std::move(console);
    engine_stderr_ = std::move(output.read);
}

std::optional<MachineExit> QemuMachine::poll_exit() {
    if (exit_) return exit_;
    handle_qmp();
    read_stderr();
    for (int i = 0; i < kMaxConsoleReads && read_console(); ++i) {
    }
    std::uint64_t expirations = 0;
    if (::read(timer_.get(), &expirations, sizeof expirations) > 0)
        finish(process_->kill_and_reap());
    if (!exit_) {
        if (const auto status = process_->try_reap()) finish(*status);
    }
    return exit_;
}

void QemuMachine::handle_qmp() {
    qmp_->flush();
    for (const QmpMessage& message : qmp_->receive())
        handle_message(message);
    update_write_interest();
    if (!qmp_->violation().empty() && evidence_.violation.empty()) {
        evidence_.violation = qmp_->violation();
        fail();
    }
}

void QemuMachine::update_write_interest() {
    if (qmp_->closed()) {
        ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, qmp_->fd(), nullptr);  // ENOENT the second time
        return;
    }
    if (qmp_->wants_write() == qmp_write_watched_) return;
    qmp_write_watched_ = qmp_->wants_write();
    epoll_event event{.events = EPOLLIN | (qmp_write_watched_ ? EPOLLOUT : 0u),
                      .data = {.fd = qmp_->fd()}};
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, qmp_->fd(), &event);
}

void QemuMachine::handle_message(const QmpMessage& message) {
    switch (message.kind) {
        case QmpMessage::Kind::kGreeting:
            evidence_.engine_started = true;
            if (std::pair(message.version_major, message.version_minor) <
                std::pair(kMinimumEngineMajor, kMinimumEngineMinor)) {
                evidence_.violation =
                    fmt::format("{} is QEMU {}.{}, but {}.{} or newer is needed",
                                start_.engine.string(), message.version_major,
                                message.version_minor, kMinimumEngineMajor, kMinimumEngineMinor);
                fail();
            }
            break;
        case QmpMessage::Kind::kReturn:
            if (message.id == status_query_) handle_stopped(message.status);
            if (message.id == cpus_query_ && !message.thread_ids.empty()) {
                vcpu_threads_ = message.thread_ids;
                set_cpu_limit(cpu_limit_);
            }
            break;
        case QmpMessage::Kind::kError:
            break;  // the only commands that can fail are refused by an engine that is ending
        case QmpMessage::Kind::kEvent:
            handle_event(message);
            break;
    }
}

// The answer to "why did you stop the guest?".
void QemuMachine::handle_stopped(std::string_view status) {
    if (status == "running" || evidence_.guest_ended) return;
    if (status == "internal-error") {
        evidence_.internal_error = true;
        if (start_.accelerator == Accelerator::kKvm) forget_verdict(start_.verdict_file);
    } else {
        evidence_.violation = "the engine stopped the guest without being asked to";
    }
    fail();
}

void QemuMachine::handle_event(const QmpMessage& message) {
    if (message.event == "SHUTDOWN") {
        if (message.guest_requested) {
            guest_has_ended();
        } else if (message.reason == "host-signal") {
            evidence_.host_signal = true;
        }
    } else if (message.event == "STOP") {
        // We never stop a machine: the engine did, and its status says why.
        status_query_ = qmp_->send("query-status");
    } else if (message.event == "BALLOON_CHANGE" && message.balloon_actual) {
        memory_.current_mib = std::min(*message.balloon_actual / kMib, memory_.max_mib);
    }
}

// True while there may be more.
bool QemuMachine::read_console() {
    if (!console_) return false;
    std::array<char, kReadChunk> chunk;
    const ssize_t n = ::read(console_.get(), chunk.data(), chunk.size());
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    if (n <= 0) {
        console_.reset();  // leaves the epoll set by itself
        return false;
    }
    const std::string_view bytes(chunk.data(), static_cast<std::size_t>(n));
    console_log_.write(bytes);
    console_watcher_.feed(bytes);
    if (start_.on_console) start_.on_console(bytes);
    evidence_.panic_line = console_watcher_.panic_line();
    if (console_watcher_.halted() && !evidence_.guest_ended) {
        qmp_->send("quit");
        guest_has_ended();
    }
    return true;
}

bool QemuMachine::read_stderr() {
    if (!engine_stderr_) return false;
    std::array<char, kReadChunk> chunk;
    const ssize_t n = ::read(engine_stderr_.get(), chunk.data(), chunk.size());
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return false;
    if (n <= 0) {
        engine_stderr_.reset();
        return false;
    }
    const std::string_view bytes(chunk.data(), static_cast<std::size_t>(n));
    forward_stderr(bytes);
    std::string& tail = evidence_.engine_output;
    tail.append(bytes);
    if (tail.size() > kStderrTail) tail.erase(0, tail.size() - kStderrTail);
    return true;
}

void QemuMachine::forward_stderr(std::string_view bytes) {
    if (!caller_stderr_) return;
    const auto room = static_cast<std::size_t>(kMaxForwardedStderr - forwarded_stderr_);
    bytes = bytes.substr(0, room);
    forwarded_stderr_ += bytes.size();
    (void)write_all(caller_stderr_.get(), bytes);
}

void QemuMachine::guest_has_ended() {
    evidence_.guest_ended = true;
    const itimerspec deadline{.it_interval = {},
                              .it_value = {.tv_sec = kEngineExitSeconds, .tv_nsec = 0}};
    ::timerfd_settime(timer_.get(), 0, &deadline, nullptr);
}

// Nothing more to expect from this engine: poll_exit() takes it down.
void QemuMachine::fail() {
    const itimerspec now{.it_interval = {}, .it_value = {.tv_sec = 0, .tv_nsec = 1}};
    ::timerfd_settime(timer_.get(), 0, &now, nullptr);
}

// What the engine wrote before it died is still in the sockets.
void QemuMachine::drain_output() {
    constexpr int kMaxDrainReads = 64;  // bounded by the socket buffers anyway
    for (int i = 0; i < kMaxDrainReads && !qmp_->closed(); ++i) {
        const auto messages = qmp_->receive();
        for (const QmpMessage& message : messages)
            handle_message(message);
        if (messages.empty()) break;
    }
    for (int i = 0; i < kMaxDrainReads && read_console(); ++i) {
    }
    for (int i = 0; i < kMaxDrainReads && read_stderr(); ++i) {
    }
}

void QemuMachine::finish(int wait_status) {
    drain_output();
    evidence_.wait_status = wait_status;
    exit_ = classify_exit(evidence_);
    // The caller may keep its descriptor registered: nothing in it is ready any more.
    for (const int fd :
         {qmp_->fd(), console_.get(), engine_stderr_.get(), process_->pidfd(), timer_.get()})
        ::epoll_ctl(epoll_.get(), EPOLL_CTL_DEL, fd, nullptr);
}

void QemuMachine::set_memory_target(std::uint64_t total_mib) {
    const std::uint64_t target = std::clamp(total_mib, memory_.boot_mib, memory_.max_mib);
    if (target == memory_.target_mib || exit_) return;
    memory_.target_mib = target;
    send_memory_target();
    update_write_interest();
}

void QemuMachine::send_memory_target() {
    qmp_->send("balloon", fmt::format("{{\"value\":{}}}", memory_.target_mib * kMib));
}

void QemuMachine::set_cpu_limit(unsigned online) {
    cpu_limit_ = std::clamp(online, 1u, max_vcpus_);
    if (exit_) return;
    if (!vcpu_threads_.empty() && !vcpu_processors_.empty()) {
        const auto bound =
            bind_threads(process_->pid(), vcpu_threads_, vcpu_processors_, cpu_limit_);
        if (const auto report = std::exchange(on_vcpus_bound_, {})) report(bound);
    } else if (!vcpu_threads_.empty()) {
        limit_threads(process_->pid(), vcpu_threads_, cpu_limit_ == max_vcpus_ ? 0 : cpu_limit_);
    } else if (cpu_limit_ < max_vcpus_ && cpus_query_ == 0) {
        cpus_query_ = qmp_->send("query-cpus-fast");
        update_write_interest();
    }
}

void QemuMachine::kill() {
    if (poll_exit()) return;
    evidence_.kill_requested = true;
    finish(process_->kill_and_reap());
}

}  // namespace

std::unique_ptr<Machine> start_engine(MachineConfig config, EngineStart start) {
    return std::make_unique<QemuMachine>(std::move(config), std::move(start));
}

}  // namespace msb::vmm
