// doctor (spec/cli.md section 10.2). Everything goes to standard error.
#include <microsandbox/backend.h>
#include <microsandbox/version.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <iostream>

#include "base/error.h"
#include "base/process.h"
#include "base/text.h"
#include "cli/commands/commands.h"
#include "cli/commands/doctor_checks.h"
#include "cli/spinner.h"
#include "cli/style.h"
#include "cli/values.h"

namespace msb::cli {

namespace {

void print_info(std::string_view text) {
    write_err(paint("info", Tone::kInfo) + " " + std::string(text) + "\n");
}

void print_header() {
    utsname system{};
    ::uname(&system);
    print_info("Platform: " + std::string(system.sysname) + " " + system.machine);
    print_info("Version: v" + std::string(microsandbox::version()));
    print_info("MSB_HOME: " + microsandbox::home_directory().string());
}

void print_rows(const Diagnosis& diagnosis) {
    for (const auto& row : diagnosis.rows) {
        const bool good = row.verdict == Verdict::kGood;
        const bool bad = row.verdict == Verdict::kBad;
        const std::string_view glyph = good ? "✓" : bad ? "✗" : "!";
        const Tone tone = good ? Tone::kGood : bad ? Tone::kBad : Tone::kNotice;
        write_err(action_line(glyph, tone, row.label, row.text) + "\n");
    }
}

std::vector<std::string> with_privilege(std::vector<std::string> command) {
    if (::geteuid() != 0) command.insert(command.begin(), "sudo");
    return command;
}

void print_findings(const Diagnosis& diagnosis) {
    for (const auto& finding : diagnosis.findings) {
        auto lines = finding.lines;
        if (finding.fix) {
            lines.push_back("fix: " + finding.fix->title);
            for (const auto& command : finding.fix->commands)
                lines.push_back("  " + join(with_privilege(command), " "));
            lines.push_back("apply automatically: msb doctor --fix");
        }
        if (finding.problem) {
            print_block(finding.title, lines);
            continue;
        }
        print_warning(finding.title);
        for (const auto& line : lines)
            print_notice("  " + paint("→", Tone::kDim) + " " + line);
    }
}

std::string find_program(const std::string& name) {
    const char* path = std::getenv("PATH");
    for (auto directory : split(path ? path : "", ':')) {
        const std::string candidate = std::string(directory) + "/" + name;
        if (!directory.empty() && ::access(candidate.c_str(), X_OK) == 0) return candidate;
    }
    fail_value(name + " was not found");
}

void run_fix_command(const std::vector<std::string>& words) {
    SpawnOptions options;
    options.argv = with_privilege(words);
    options.argv.front() = find_program(options.argv.front());
    const pid_t child = spawn(options);
    int status = 0;
    while (::waitpid(child, &status, 0) < 0) {
        if (errno != EINTR) throw_os_error(errno, "waitpid");
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
        fail_value("`" + join(with_privilege(words), " ") + "` failed (" +
                   exit_status_text(status) + ")");
}

bool confirm(const std::string& title) {
    write_err("Apply fix — " + title + "? [y/N] ");
    std::string answer;
    std::getline(std::cin, answer);
    return answer == "y" || answer == "Y" || answer == "yes";
}

// True when something was applied.
bool apply_fixes(const Diagnosis& diagnosis, bool yes) {
    bool fixable = false;
    bool applied = false;
    for (const auto& finding : diagnosis.findings) {
        if (!finding.fix) continue;
        fixable = true;
        if (!yes && ::isatty(STDIN_FILENO) != 1)
            fail_value("non-interactive terminal; pass --yes to apply fixes");
        if (!yes && !confirm(finding.fix->title)) continue;
        for (const auto& command : finding.fix->commands)
            run_fix_command(command);
        applied = true;
    }
    if (!fixable) print_warning("no automatic fixes are available for the problems above.");
    return applied;
}

Diagnosis examine() {
    const Spinner spinner("Checking", "host", false);
    return diagnose();
}

}  // namespace

int doctor_command(const Matches& matches) {
    auto diagnosis = examine();
    print_header();
    print_rows(diagnosis);
    print_findings(diagnosis);
    if (matches.has("fix") && !diagnosis.findings.empty() &&
        apply_fixes(diagnosis, matches.has("yes"))) {
        diagnosis = examine();
        print_rows(diagnosis);
        print_findings(diagnosis);
    }
    if (!diagnosis.healthy()) return 1;
    write_err(paint("done", Tone::kDone) + " Host setup is ready.\n");
    return 0;
}

}  // namespace msb::cli
