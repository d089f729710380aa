#include "runtime/process.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <memory>

#include "base/error.h"
#include "base/log.h"
#include "base/process.h"
#include "runtime/confinement.h"
#include "runtime/inputs.h"
#include "runtime/runtime_log.h"
#include "runtime/sandbox.h"

namespace msb::runtime {
namespace {

constexpr rlim_t kWantedDescriptors = 1'048'576;

void print_error(const std::string& text) {
    (void)write_all(STDERR_FILENO, text + "\n");
}

void raise_descriptor_limit() {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
    limit.rlim_cur = limit.rlim_max == RLIM_INFINITY ? kWantedDescriptors
                                                     : std::min(limit.rlim_max, kWantedDescriptors);
    (void)::setrlimit(RLIMIT_NOFILE, &limit);
}

// The launcher waits for this line before anything else. Whoever does not read it has its reasons.
void announce(const Inputs& inputs) {
    const int fd = inputs.startup ? inputs.startup.get() : STDOUT_FILENO;
    (void)write_all(fd, contract::startup_line(::getpid()));
}

void silence_stdout() {
    UniqueFd null(::open("/dev/null", O_WRONLY | O_CLOEXEC));
    if (null) (void)::dup2(null.get(), STDOUT_FILENO);
}

// The directory may be what is broken: then the record cannot be written either, and standard error has to do.
std::unique_ptr<RuntimeLog> open_runtime_log(const Inputs& inputs) {
    try {
        std::error_code error;
        std::filesystem::create_directories(inputs.config.log_dir, error);
        if (error) throw_os_error(error.value(), "create " + inputs.config.log_dir.string());
        return std::make_unique<RuntimeLog>(inputs.config.log_dir, inputs.args.forward);
    } catch (const std::exception& error) {
        print_error(std::string("sandbox error: ") + error.what());
        return nullptr;
    }
}

}  // namespace

int run_sandbox_process(int argc, char** argv) {
    (void)::signal(SIGPIPE, SIG_IGN);
    ::setenv("MSB_PATH", self_executable().c_str(), 0);
    Inputs inputs;
    try {
        inputs = read_inputs({argv + 1, argv + argc});
    } catch (const contract::UsageError& error) {
        if (error.status() == 0)
            (void)write_all(STDOUT_FILENO, std::string_view(error.what()));
        else
            print_error(error.what());
        return error.status();
    }
    raise_descriptor_limit();
    announce(inputs);
    silence_stdout();
    set_log_level(parse_log_level(inputs.args.log_level.value_or("info")));
    drop_capabilities();
    auto log = open_runtime_log(inputs);
    if (!log) return 1;
    const RunResult result = run_sandbox(std::move(inputs), *log);
    log.reset();
    if (result.threads_left) ::_exit(result.status);
    return result.status;
}

}  // namespace msb::runtime
