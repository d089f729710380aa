// exec (spec/cli.md section 7).
#include <microsandbox/sandbox.h>
#include <unistd.h>

#include "cli/commands/borrowed.h"
#include "cli/commands/commands.h"
#include "cli/commands/session.h"
#include "cli/report.h"
#include "cli/values.h"

namespace msb::cli {

int exec_command(const Matches& matches) {
    Session session;
    for (const auto& text : matches.values("env")) {
        auto entry = parse_env(text);
        session.env.emplace_back(std::move(entry.key), std::move(entry.value));
    }
    session.limits = parse_command_options(matches);
    if (auto words = matches.values("COMMAND"); !words.empty()) session.words = std::move(words);
    session.workdir = matches.value("workdir");
    session.user = matches.value("user");
    session.tty = matches.has("tty");
    const bool stream = matches.has("stream");
    if (stream && ::isatty(STDIN_FILENO) == 1)
        fail_value(
            "`--stream` requires piped (non-terminal) stdin; use `--tty` for an interactive "
            "terminal session");
    session.interactive = !stream && wants_terminal(matches);
    session.read_stdin = true;

    const auto handle = microsandbox::Sandbox::get(matches.value("NAME").value());
    BorrowedSandbox sandbox(handle, matches.has("quiet"));
    int code = 1;
    try {
        code = stream ? stream_session(*sandbox, session) : run_session(*sandbox, session);
    } catch (...) {
        code = report_current_exception();
    }
    sandbox.give_back();
    return code;
}

}  // namespace msb::cli
