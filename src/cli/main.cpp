// The `msb` program: parse, choose the command, print what went wrong.
#include <microsandbox/backend.h>
#include <microsandbox/version.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/process.h"
#include "cli/commands/commands.h"
#include "cli/completion.h"
#include "cli/parse.h"
#include "cli/report.h"
#include "cli/style.h"
#include "cli/usage.h"
#include "cli/values.h"
#include "runtime/process.h"
#include "state/global_config.h"

namespace msb::cli {

namespace {

// The hidden `msb sandbox` has its own argument forms, the older one among them (src/contract), so it does not go
// through the command table. Log flags may stand before it.
bool is_sandbox_process(const std::vector<std::string>& args) {
    for (const auto& arg : args) {
        if (arg == "sandbox") return true;
        if (!arg.starts_with("--") || !parse_log_level(std::string_view(arg).substr(2)))
            return false;
    }
    return false;
}

bool needs_backend(CommandId id) {
    return id != CommandId::kDoctor && id != CommandId::kCompletion &&
           id != CommandId::kSchemaBaseline && id != CommandId::kContext;
}

bool is_about_images(CommandId id) {
    switch (id) {
        case CommandId::kPull:
        case CommandId::kLoad:
        case CommandId::kSave:
        case CommandId::kImageList:
        case CommandId::kImageInspect:
        case CommandId::kImageRemove:
        case CommandId::kImagePrune:
            return true;
        default:
            return false;
    }
}

bool is_about_registries(CommandId id) {
    return id == CommandId::kRegistryLogin || id == CommandId::kRegistryLogout ||
           id == CommandId::kRegistryList;
}

// Throws when the choice of a backend is faulty, or is one that cannot do this.
void check_backend(CommandId id) {
    const auto backend = state::choose_backend();
    if (is_about_registries(id)) return;
    if (is_about_images(id) && backend.kind != state::Backend::Kind::kLocal)
        fail_value(
            "this command requires a local backend, but the active default is a cloud backend");
    (void)microsandbox::backend_info();
}

int dispatch(const Invocation& invocation) {
    const CommandId id = invocation.path.back()->id;
    const Matches& matches = invocation.matches;
    const Globals globals{invocation.log_flag};
    if (needs_backend(id)) check_backend(id);
    switch (id) {
        case CommandId::kRun:
            return run_command(matches, globals);
        case CommandId::kCreate:
            return create_command(matches, globals);
        case CommandId::kStart:
            return start_command(matches);
        case CommandId::kStop:
            return stop_command(matches);
        case CommandId::kRestart:
            return restart_command(matches);
        case CommandId::kPing:
            return ping_command(matches);
        case CommandId::kTouch:
            return touch_command(matches);
        case CommandId::kList:
            return list_command(matches);
        case CommandId::kStatus:
            return status_command(matches);
        case CommandId::kRemove:
            return remove_command(matches);
        case CommandId::kExec:
            return exec_command(matches);
        case CommandId::kCopy:
            return copy_command(matches);
        case CommandId::kLogs:
            return logs_command(matches);
        case CommandId::kInspect:
            return inspect_command(matches);
        case CommandId::kPull:
            return pull_command(matches);
        case CommandId::kLoad:
            return load_command(matches);
        case CommandId::kSave:
            return save_command(matches);
        case CommandId::kImageList:
            return image_list_command(matches);
        case CommandId::kImageInspect:
            return image_inspect_command(matches);
        case CommandId::kImageRemove:
            return image_remove_command(matches);
        case CommandId::kImagePrune:
            return image_prune_command(matches);
        case CommandId::kRegistryLogin:
            return registry_login_command(matches);
        case CommandId::kRegistryLogout:
            return registry_logout_command(matches);
        case CommandId::kRegistryList:
            return registry_list_command(matches);
        case CommandId::kDoctor:
            return doctor_command(matches);
        case CommandId::kContext:
            return context_command(matches);
        case CommandId::kSchemaBaseline:
            return schema_baseline_command(matches);
        case CommandId::kCompletion:
            write_out(completion_script(root_command(), matches.value("SHELL").value()));
            return 0;
        case CommandId::kRoot:
        case CommandId::kSelf:
        case CommandId::kImage:
        case CommandId::kRegistry:
        case CommandId::kHelp:
        case CommandId::kSandbox:
            break;  // not run through here
    }
    return 2;
}

int execute(const Invocation& invocation) {
    switch (invocation.kind) {
        case Invocation::Kind::kHelp:
            (invocation.to_stderr ? write_err : write_out)(help_page(invocation.path));
            return invocation.exit_code;
        case Invocation::Kind::kVersion:
            write_out("msb " + std::string(microsandbox::version()) + "\n");
            return 0;
        case Invocation::Kind::kTree:
            write_out(command_tree(root_command(), invocation.tree_words) + "\n");
            return 0;
        case Invocation::Kind::kError:
            write_err(invocation.error);
            return invocation.exit_code;
        case Invocation::Kind::kRun:
            break;
    }
    if (invocation.log_flag) set_log_level(parse_log_level(*invocation.log_flag));
    // Sandboxes are run by this very program unless the user said otherwise.
    ::setenv("MSB_PATH", self_executable().c_str(), 0);
    return dispatch(invocation);
}

}  // namespace

}  // namespace msb::cli

int main(int argc, char** argv) {
    using namespace msb::cli;
    const std::vector<std::string> args(argv + (argc > 0 ? 1 : 0), argv + argc);
    if (is_sandbox_process(args)) return msb::runtime::run_sandbox_process(argc, argv);
    try {
        return execute(parse_command_line(root_command(), args));
    } catch (...) {
        return report_current_exception();
    }
}
