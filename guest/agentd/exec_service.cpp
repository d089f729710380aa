#include "agentd/exec_service.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "agentd/exec_error.h"
#include "agentd/failure.h"
#include "agentd/pty.h"
#include "agentd/spawn.h"
#include "base/error.h"
#include "base/text.h"

namespace msb::agentd {

namespace {

constexpr std::string_view kPipeStage = "Command::spawn";
constexpr std::string_view kPtyExecStage = "execvp";
constexpr std::string_view kPtyForkStage = "fork";
// Exits handled before the loop looks at its descriptors again.
constexpr int kReapBatch = 256;

struct ExecRefused {
    protocol::ExecFailed answer;
};

bool has_nul(std::string_view text) {
    return text.find('\0') != std::string_view::npos;
}

// A NUL would silently cut the string the kernel gets.
[[noreturn]] void refuse_pipe_nul(std::string_view command) {
    std::string shown(has_nul(command) ? "<string-with-nul>" : command);
    protocol::ExecFailed answer =
        other_failure("spawn " + msb::quoted(shown) + ": nul byte found in provided data");
    answer.stage = kPipeStage;
    throw ExecRefused{std::move(answer)};
}

void check_tty_nul(std::string_view what, std::string_view text) {
    std::size_t at = text.find('\0');
    if (at == std::string_view::npos) return;
    throw session_error("invalid " + std::string(what) +
                        ": nul byte found in provided data at position: " + std::to_string(at));
}

void check_strings(const protocol::ExecRequest& request, const std::vector<std::string>& env,
                   const std::optional<std::string>& cwd) {
    if (request.tty) {
        check_tty_nul("command", request.cmd);
        for (const std::string& arg : request.args)
            check_tty_nul("arg", arg);
        if (cwd) check_tty_nul("cwd", *cwd);
        return;
    }
    bool bad = has_nul(request.cmd) || (cwd && has_nul(*cwd));
    for (const auto* list : {&request.args, &env}) {
        for (const std::string& string : *list)
            bad = bad || has_nul(string);
    }
    if (bad) refuse_pipe_nul(request.cmd);
}

SpawnPlan make_plan(const protocol::ExecRequest& request, const AgentConfig& config) {
    SpawnPlan plan;
    plan.tty = request.tty;
    plan.restricted = config.restricted;
    plan.nofile = config.child_nofile;
    plan.limits = resource_limits(request.rlimits);
    plan.cwd = request.cwd ? request.cwd : config.default_cwd;
    plan.identity = resolve_identity(request.user, config.user, config.user_files);
    ExecEnvironment environment = exec_environment(config.environment, request.env, request.tty);
    if (!environment.has_home && plan.identity.home)
        environment.env.set("HOME", *plan.identity.home);
    plan.env = environment.env.entries();
    check_strings(request, plan.env, plan.cwd);
    plan.candidates = executable_candidates(request.cmd, *environment.env.find("PATH"));
    plan.argv.push_back(request.cmd);
    plan.argv.insert(plan.argv.end(), request.args.begin(), request.args.end());
    return plan;
}

// The child's ends; closed once it has them.
struct ChildEnds {
    UniqueFd input;
    UniqueFd output;
    UniqueFd errors;
};

PipeFds open_pipe(std::string_view command) {
    int fds[2];
    if (::pipe2(fds, O_CLOEXEC) != 0) throw ExecRefused{spawn_failure(errno, command, kPipeStage)};
    return {UniqueFd(fds[0]), UniqueFd(fds[1])};
}

SessionStreams open_pipes(ChildEnds& child, std::string_view command) {
    PipeFds input = open_pipe(command);
    PipeFds output = open_pipe(command);
    PipeFds errors = open_pipe(command);
    // Only our ends: the flag belongs to the open file, and each end is one of its own.
    for (const UniqueFd* fd : {&input.write, &output.read, &errors.read})
        set_nonblocking(fd->get(), true);
    child = {std::move(input.read), std::move(output.write), std::move(errors.write)};
    return {false, std::move(input.write), std::move(output.read), std::move(errors.read)};
}

SessionStreams open_streams(const protocol::ExecRequest& request, SpawnPlan& plan,
                            ChildEnds& child) {
    SessionStreams streams;
    if (request.tty) {
        Pty pty = open_pty(request.rows, request.cols);
        child.input = std::move(pty.slave);
        streams.tty = true;
        streams.output = std::move(pty.master);
        plan.stdin_fd = plan.stdout_fd = plan.stderr_fd = child.input.get();
        return streams;
    }
    streams = open_pipes(child, request.cmd);
    plan.stdin_fd = child.input.get();
    plan.stdout_fd = child.output.get();
    plan.stderr_fd = child.errors.get();
    return streams;
}

}  // namespace

void ExecService::request(std::uint32_t id, const protocol::ExecRequest& request) {
    try {
        start(id, request);
    } catch (const ExecRefused& refused) {
        context_.output.send(id, refused.answer);
    } catch (const Failure& failure) {
        context_.output.send(id, other_failure(failure.what()));
    } catch (const Error& error) {
        // A terminal could not be had; its text says why.
        context_.output.send(id, other_failure("exec session error: " + error.detail()));
    }
}

void ExecService::start(std::uint32_t id, const protocol::ExecRequest& request) {
    SpawnPlan plan = make_plan(request, config_);
    ChildEnds child;
    SessionStreams streams = open_streams(request, plan, child);
    SpawnResult result = spawn_process(plan);
    if (result.error != 0) {
        std::string_view stage = !request.tty    ? kPipeStage
                                 : result.forked ? kPtyExecStage
                                                 : kPtyForkStage;
        throw ExecRefused{spawn_failure(result.error, request.cmd, stage)};
    }
    adopt(id, result.pid, std::move(streams));
}

void ExecService::adopt(std::uint32_t id, pid_t pid, SessionStreams streams) {
    Key key = next_key_++;
    if (ExecSession* older = find(id)) older->displace();
    auto session = std::make_unique<ExecSession>(context_, id, pid, std::move(streams),
                                                 [this, key] { finish(key); });
    ExecSession& started = *session;
    sessions_.emplace(key, std::move(session));
    by_id_[id] = key;
    by_pid_[pid] = key;
    context_.activity.exec_sessions = static_cast<std::uint32_t>(sessions_.size());
    context_.output.send(id, protocol::ExecStarted{.pid = static_cast<std::uint32_t>(pid)});
    started.start();
}

void ExecService::finish(Key key) {
    auto node = sessions_.extract(key);
    const ExecSession& session = *node.mapped();
    auto current = by_id_.find(session.id());
    if (current != by_id_.end() && current->second == key) by_id_.erase(current);
    context_.activity.exec_sessions = static_cast<std::uint32_t>(sessions_.size());
    context_.output.send(session.id(), protocol::ExecExited{.code = session.exit_code()});
}

ExecSession* ExecService::find(std::uint32_t id) {
    auto key = by_id_.find(id);
    return key == by_id_.end() ? nullptr : sessions_.at(key->second).get();
}

void ExecService::write_stdin(std::uint32_t id, std::span<const std::byte> data) {
    if (ExecSession* session = find(id)) session->write_stdin(data);
}

void ExecService::resize(std::uint32_t id, const protocol::ExecResize& size) {
    if (ExecSession* session = find(id)) session->resize(size.rows, size.cols);
}

void ExecService::signal(std::uint32_t id, int number) {
    if (ExecSession* session = find(id)) session->signal(number);
}

void ExecService::signal_all(int number) {
    for (auto& [key, session] : sessions_)
        session->signal(number);
}

void ExecService::resume_output() {
    for (auto& [key, session] : sessions_)
        session->resume();
}

bool ExecService::reap() {
    for (int i = 0; i < kReapBatch; ++i) {
        int status = 0;
        pid_t pid = ::waitpid(-1, &status, WNOHANG);
        if (pid == 0 || (pid < 0 && errno == ECHILD)) return true;
        if (pid < 0 && errno == EINTR) continue;
        if (pid < 0) throw_os_error(errno, "reap children");
        auto key = by_pid_.find(pid);
        if (key == by_pid_.end()) continue;
        ExecSession& session = *sessions_.at(key->second);
        by_pid_.erase(key);
        session.reaped(status);
    }
    return false;
}

}  // namespace msb::agentd
