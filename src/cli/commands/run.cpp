// run and create (spec/cli.md section 4).
#include <microsandbox/sandbox.h>
#include <unistd.h>

#include <future>

#include "base/text.h"
#include "cli/commands/borrowed.h"
#include "cli/commands/commands.h"
#include "cli/commands/create_builder.h"
#include "cli/commands/session.h"
#include "cli/create_progress.h"
#include "cli/report.h"
#include "cli/spinner.h"
#include "cli/style.h"

namespace msb::cli {

namespace {

using microsandbox::Sandbox;
using microsandbox::SandboxHandle;
using microsandbox::SandboxStatus;

std::optional<SandboxHandle> find_sandbox(const std::string& name) {
    try {
        return Sandbox::get(name);
    } catch (const microsandbox::Error& error) {
        if (error.code() != microsandbox::ErrorCode::kSandboxNotFound) throw;
        return std::nullopt;
    }
}

std::optional<std::vector<std::string>> trailing_words(const Matches& matches) {
    auto words = matches.values("COMMAND");
    if (words.empty()) return std::nullopt;
    return words;
}

// Boot, run the command, stop. The exit code of a failure is reported before the sandbox is stopped, so that a slow stop
// does not hold the message back.
int run_in(BorrowedSandbox& sandbox, const Matches& matches) {
    int code = 1;
    try {
        Session session;
        session.words = trailing_words(matches);
        session.with_entrypoint = true;
        session.interactive = wants_terminal(matches);
        session.tty = matches.has("tty");
        session.detach_keys = matches.value("detach-keys");
        session.limits = parse_command_options(matches);
        session.interactive_timeout = true;
        code = run_session(*sandbox, session);
    } catch (...) {
        code = report_current_exception();
    }
    sandbox.give_back();
    return code;
}

// The image's own init runs the command: the console is its output, and the sandbox ends with it.
int follow_init(const Sandbox& sandbox) {
    constexpr std::chrono::milliseconds kPoll{100};
    microsandbox::LogStreamOptions options;
    options.sources = {microsandbox::LogSource::kSystem};
    options.follow = true;
    microsandbox::LogStream log = sandbox.log_stream(options);
    auto exit = std::async(std::launch::async, [&sandbox] { return sandbox.wait(); });
    for (;;) {
        const bool ended = exit.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
        bool timed_out = false;
        if (const auto entry = log.recv_for(kPoll, timed_out))
            write_out(entry->data);
        else if (ended || !timed_out)
            break;
    }
    return exit.get().exit_code.value_or(1);
}

int reuse(const SandboxHandle& handle, const Matches& matches) {
    const bool quiet = matches.has("quiet");
    const std::string& name = handle.name();
    if (const auto ignored = ignored_creation_flags(matches); !ignored.empty())
        print_warning("sandbox '" + name + "' already exists; " + ignored +
                      " ignored (use --replace to recreate)");
    if (!matches.has("detach")) {
        BorrowedSandbox sandbox(handle, quiet);
        return run_in(sandbox, matches);
    }
    if (trailing_words(matches))
        print_warning("command after -- is not applied when reusing existing sandbox '" + name +
                      "' in --detach mode (use `msb exec " + name + " -- ...`)");
    BorrowedSandbox::check_startable(handle);
    if (handle.status() != SandboxStatus::kRunning) {
        const Spinner spinner("Starting", name, quiet);
        (void)handle.start_detached();
    }
    write_out(name + "\n");
    return 0;
}

// The name to create under, and whether it was generated.
struct ChosenName {
    std::string text;
    bool generated = false;
};

ChosenName choose_name(const Matches& matches) {
    if (const auto name = matches.value("name")) return {*name, false};
    return {generate_name(), true};
}

std::string image_text(const Matches& matches) {
    return matches.value("IMAGE").value_or("");
}

}  // namespace

int run_command(const Matches& matches, const Globals& globals) {
    const auto name = choose_name(matches);
    const bool replace = matches.has("replace") || matches.has("replace-with-timeout");
    if (!name.generated && !replace)
        if (const auto existing = find_sandbox(name.text)) return reuse(*existing, matches);

    auto builder = make_builder(name.text, parse_create_options(matches), globals);
    builder.ephemeral(name.generated);
    const bool quiet = matches.has("quiet");
    if (matches.has("detach")) {
        if (const auto words = trailing_words(matches)) builder.startup(*words);
        {
            CreateProgress progress("Starting", name.text, image_text(matches), quiet);
            (void)builder.pull_progress(progress.sink()).create_detached();
        }
        write_out(name.text + "\n");
        return 0;
    }
    builder.foreground(trailing_words(matches));
    std::optional<BorrowedSandbox> sandbox;
    {
        CreateProgress progress("Starting", name.text, image_text(matches), quiet);
        sandbox.emplace(builder.pull_progress(progress.sink()).create());
    }
    if ((*sandbox)->init_owns_command()) return follow_init(**sandbox);
    return run_in(*sandbox, matches);
}

int create_command(const Matches& matches, const Globals& globals) {
    const auto name = choose_name(matches);
    auto builder = make_builder(name.text, parse_create_options(matches), globals);
    {
        CreateProgress progress("Creating", name.text, image_text(matches), matches.has("quiet"));
        (void)builder.pull_progress(progress.sink()).create_detached();
    }
    if (name.generated) write_out(name.text + "\n");
    return 0;
}

}  // namespace msb::cli
