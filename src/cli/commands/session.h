// One command in a running sandbox, with the terminal, captured or streamed (spec/cli.md sections 4.2 and 4.3).
#pragma once

#include <microsandbox/sandbox.h>

#include <optional>
#include <string>
#include <vector>

#include "cli/create_options.h"
#include "cli/parse.h"

namespace msb::cli {

struct Session {
    // The words after "--"; unset when there were none.
    std::optional<std::vector<std::string>> words;
    bool with_entrypoint = false;  // run: entrypoint + words; exec: words alone
    bool interactive = false;      // on this process's terminal
    bool tty = false;              // captured, but the guest sees a terminal
    bool read_stdin = false;       // captured: standard input goes to the command
    std::optional<std::string> workdir;
    std::optional<std::string> user;
    std::vector<std::pair<std::string, std::string>> env;
    std::optional<std::string> detach_keys;
    CommandOptions limits;
    bool interactive_timeout = false;  // run: --timeout also ends interactive commands
};

// Interactive: standard input is a terminal and there is no --no-tty.
bool wants_terminal(const Matches& matches);

// Runs it and returns the exit code of this process. Throws what the SDK throws.
int run_session(const microsandbox::Sandbox& sandbox, const Session& session);

// exec --stream: bytes pass through both ways as they come.
int stream_session(const microsandbox::Sandbox& sandbox, const Session& session);

}  // namespace msb::cli
