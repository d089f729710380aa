// One function per command: takes the checked arguments, returns the exit code. Errors are exceptions; main prints them
// (report.h).
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/parse.h"

namespace msb::cli {

struct Globals {
    std::optional<std::string_view> log_flag;  // "error" ... "trace", when one was given
};

int run_command(const Matches& matches, const Globals& globals);
int create_command(const Matches& matches, const Globals& globals);
int start_command(const Matches& matches);
int stop_command(const Matches& matches);
int restart_command(const Matches& matches);
int ping_command(const Matches& matches);
int touch_command(const Matches& matches);
int remove_command(const Matches& matches);
int list_command(const Matches& matches);
int status_command(const Matches& matches);
int inspect_command(const Matches& matches);
int exec_command(const Matches& matches);
int copy_command(const Matches& matches);
int logs_command(const Matches& matches);
int pull_command(const Matches& matches);
int load_command(const Matches& matches);
int save_command(const Matches& matches);
int image_list_command(const Matches& matches);
int image_inspect_command(const Matches& matches);
int image_remove_command(const Matches& matches);
int image_prune_command(const Matches& matches);
int registry_login_command(const Matches& matches);
int registry_logout_command(const Matches& matches);
int registry_list_command(const Matches& matches);
int doctor_command(const Matches& matches);
int context_command(const Matches& matches);
int schema_baseline_command(const Matches& matches);

}  // namespace msb::cli
