#include "cli/report.h"

#include <array>
#include <exception>
#include <optional>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "cli/style.h"

namespace msb::cli {

namespace {

struct FailureText {
    std::string_view kind;
    std::string_view label;
    std::string_view hint;  // CMD stands for the command
};

constexpr std::array kFailures = {
    FailureText{"not_found", "not found",
                "is `CMD` on PATH inside the sandbox? Try `msb exec ... -- which CMD`"},
    FailureText{"permission_denied", "permission denied",
                "check the binary's permissions — `chmod +x CMD` may be needed"},
    FailureText{"not_executable", "not executable",
                "the file isn't a runnable program — wrong architecture, missing shebang "
                "interpreter, or corrupted ELF"},
    FailureText{"bad_cwd", "bad cwd",
                "the working directory doesn't exist or isn't accessible — create it inside the "
                "sandbox first"},
    FailureText{
        "bad_args", "bad args",
        "argument list is invalid: too long (E2BIG), too many symlinks, or contains null bytes"},
    FailureText{"resource_limit", "resource limit",
                "the sandbox hit a resource limit (fd table, process count). Raise `--rlimit` or "
                "stop other processes"},
    FailureText{"user_setup_failed", "user setup",
                "the requested user/group could not be applied — check that the user exists in the "
                "sandbox's `/etc/passwd`"},
    FailureText{"out_of_memory", "out of memory",
                "the sandbox is memory-constrained — try a larger `--memory`"},
    FailureText{"pty_setup_failed", "pty setup",
                "pty allocation failed; try `--no-tty` or pipe stdin (`< /dev/null`)"},
    FailureText{"other", "exec", ""},
};

std::string_view boot_hint(const microsandbox::BootError& error) {
    const int number = error.errno_value.value_or(0);
    if (error.stage == "mount" && number == 2)
        return "the host path for one of the mounts does not exist";
    if (error.stage == "mount" && number == 13)
        return "the host path is not readable by msb (check permissions)";
    if (error.stage == "image" && number == 2)
        return "rootfs not found — try `msb pull <image>` first";
    if (error.stage == "network" && (number == 98 || number == 48))
        return "a port is already bound — try a different host port or stop the other process";
    return {};
}

// The first token in double quotes, as in `spawn "ls": ...`.
std::string command_of(std::string_view message) {
    const auto open = message.find('"');
    const auto close = open == std::string_view::npos ? open : message.find('"', open + 1);
    if (close == std::string_view::npos) return "<unknown>";
    return std::string(message.substr(open + 1, close - open - 1));
}

std::string with_command(std::string_view hint, const std::string& command) {
    std::string text;
    for (std::size_t i = 0; i < hint.size();) {
        if (hint.substr(i).starts_with("CMD")) {
            text += command;
            i += 3;
        } else {
            text += hint[i++];
        }
    }
    return text;
}

}  // namespace

void print_boot_failure(const std::string& sandbox, const microsandbox::BootError& error) {
    std::vector<std::string> lines{error.stage + ": " + error.message};
    if (const auto hint = boot_hint(error); !hint.empty()) lines.emplace_back(hint);
    lines.push_back("run `msb logs --source system " + sandbox + "` for full diagnostics");
    print_block("failed to start \"" + sandbox + "\"", lines);
}

int print_exec_failure(const microsandbox::ExecFailure& failure) {
    FailureText text = kFailures.back();
    for (const auto& candidate : kFailures)
        if (candidate.kind == failure.kind) text = candidate;
    const std::string command = command_of(failure.message);
    std::string line = std::string(text.label) + ": " + failure.message;
    if (failure.errno_name) {
        line += " (" + *failure.errno_name + ")";
    } else if (failure.errno_value) {
        line += " (errno " + std::to_string(*failure.errno_value) + ")";
    }
    std::vector<std::string> lines{line};
    if (!text.hint.empty()) lines.push_back(with_command(text.hint, command));
    print_block("failed to exec \"" + command + "\"", lines);
    if (failure.kind == "not_found") return 127;
    return failure.kind == "permission_denied" || failure.kind == "not_executable" ? 126 : 1;
}

int report_current_exception() {
    try {
        throw;
    } catch (const microsandbox::BootStartError& error) {
        print_boot_failure(error.sandbox_name(), error.boot_error());
    } catch (const microsandbox::ExecFailedError& error) {
        return print_exec_failure(error.failure());
    } catch (const microsandbox::Error& error) {
        if (error.code() == microsandbox::ErrorCode::kUnsupportedOperation) {
            print_block("this sandbox's runtime is too old for the requested feature",
                        {"the sandbox was started by an older microsandbox runtime",
                         "exec and shell still work",
                         "restart the sandbox to update its runtime, then retry"});
        } else {
            print_error(error.what());
        }
    } catch (const std::exception& error) {
        print_error(error.what());
    } catch (...) {
        print_error("unknown error");
    }
    return 1;
}

std::string current_exception_text() {
    try {
        throw;
    } catch (const std::exception& error) {
        return error.what();
    } catch (...) {
        return "unknown error";
    }
}

}  // namespace msb::cli
