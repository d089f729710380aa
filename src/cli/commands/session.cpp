#include "cli/commands/session.h"

#include <unistd.h>

#include <algorithm>

#include "base/fd.h"
#include "base/time.h"
#include "cli/commands/session_parts.h"
#include "cli/report.h"
#include "cli/style.h"

namespace msb::cli {

namespace {

using microsandbox::Sandbox;

// Longer limits are no limits: nobody waits 30 years, and the clock arithmetic cannot overflow.
constexpr std::uint64_t kLongestTimeoutSeconds = 30ull * 365 * 86400;

std::vector<microsandbox::Rlimit> rlimits_of(const Session& session) {
    std::vector<microsandbox::Rlimit> limits;
    for (const auto& limit : session.limits.rlimits)
        limits.push_back({limit.resource, limit.soft, limit.hard});
    return limits;
}

int run_interactive(const Sandbox& sandbox, const Session& session,
                    const std::vector<std::string>& argv) {
    microsandbox::AttachOptions options;
    options.cwd = session.workdir;
    options.user = session.user;
    options.env = session.env;
    options.rlimits = rlimits_of(session);
    options.detach_keys = session.detach_keys;
    if (session.interactive_timeout) options.timeout = session_timeout(session);
    try {
        return guest_exit_code(
            sandbox.attach(argv.front(), {argv.begin() + 1, argv.end()}, options));
    } catch (const microsandbox::ExecTimeoutError& error) {
        print_error("command timed out after " + display_duration(error.timeout_ms() * 1'000'000));
        return 1;
    }
}

// A terminal has no end of file but its EOF character, and that one only ends the input at the start
// of a line; in the middle of one the first only hands over what is there.
void end_terminal_input(std::string& input) {
    constexpr char kEndOfFile = 0x04;
    if (!input.empty() && input.back() != '\n') input += kEndOfFile;
    input += kEndOfFile;
}

int run_captured(const Sandbox& sandbox, const Session& session,
                 const std::vector<std::string>& argv) {
    auto options = exec_options(session);
    options.timeout = session_timeout(session);
    if (session.read_stdin && ::isatty(STDIN_FILENO) != 1) {
        options.stdin_mode = microsandbox::StdinMode::kBytes;
        options.stdin_bytes = read_to_end(STDIN_FILENO);
        if (session.tty) end_terminal_input(options.stdin_bytes);
    }
    const auto output = sandbox.exec(argv.front(), {argv.begin() + 1, argv.end()}, options);
    write_err(output.stderr_bytes);
    write_out(output.stdout_bytes);
    return guest_exit_code(output.status.code);
}

}  // namespace

std::optional<std::chrono::milliseconds> session_timeout(const Session& session) {
    if (!session.limits.timeout_secs) return std::nullopt;
    return std::chrono::seconds(std::min(*session.limits.timeout_secs, kLongestTimeoutSeconds));
}

std::optional<std::vector<std::string>> resolve_command(const Sandbox& sandbox,
                                                        const Session& session) {
    if (session.words && !session.with_entrypoint) {
        if (session.words->front().empty())
            throw microsandbox::Error(microsandbox::ErrorCode::kInvalidConfig,
                                      "cmd override executable must not be empty");
        return session.words;
    }
    try {
        return sandbox.default_command(session.words);
    } catch (const microsandbox::Error& error) {
        if (error.code() != microsandbox::ErrorCode::kNoDefaultCommand) throw;
    }
    if (session.interactive) return std::vector<std::string>{sandbox.shell_path()};
    return std::nullopt;
}

microsandbox::ExecOptions exec_options(const Session& session) {
    microsandbox::ExecOptions options;
    options.cwd = session.workdir;
    options.user = session.user;
    options.env = session.env;
    options.rlimits = rlimits_of(session);
    options.tty = session.tty;
    return options;
}

bool wants_terminal(const Matches& matches) {
    return ::isatty(STDIN_FILENO) == 1 && !matches.has("no-tty");
}

int run_session(const Sandbox& sandbox, const Session& session) {
    const auto argv = resolve_command(sandbox, session);
    if (!argv) {
        print_warning("no command provided and stdin is not a terminal");
        return 0;
    }
    return session.interactive ? run_interactive(sandbox, session, *argv)
                               : run_captured(sandbox, session, *argv);
}

}  // namespace msb::cli
