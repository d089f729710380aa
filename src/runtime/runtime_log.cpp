#include "runtime/runtime_log.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/error.h"

namespace msb::runtime {
namespace {

constexpr std::size_t kChunk = 64 * 1024;

}  // namespace

RuntimeLog::RuntimeLog(const std::filesystem::path& log_dir, bool forward)
    : file_(log_dir / contract::kRuntimeLogFile), forward_(forward) {
    if (const int error = file_.open(); error != 0) throw_os_error(error, log_dir.string());
    PipeFds pipe = make_pipe();
    PipeFds stop = make_pipe();
    set_nonblocking(pipe.read.get(), true);
    original_ = duplicate(kStandardError);
    if (::dup2(pipe.write.get(), kStandardError) < 0) throw_os_error(errno);
    read_end_ = std::move(pipe.read);
    stop_read_ = std::move(stop.read);
    stop_write_ = std::move(stop.write);
    // Signals belong to the event loop's thread.
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    thread_ = std::thread([this] { pump(); });
    pthread_sigmask(SIG_SETMASK, &old, nullptr);
}

RuntimeLog::~RuntimeLog() {
    (void)::dup2(original_.get(), kStandardError);
    stop_write_.reset();
    thread_.join();
}

// Ends when told to and nothing is left to read: children may hold write ends open longer than we live.
void RuntimeLog::pump() {
    std::array<char, kChunk> buffer;
    for (;;) {
        const ssize_t count = ::read(read_end_.get(), buffer.data(), buffer.size());
        if (count > 0) {
            const std::string_view text(buffer.data(), static_cast<std::size_t>(count));
            (void)file_.write(text);
            if (forward_) (void)write_all(original_.get(), text);
            continue;
        }
        if (count == 0 || (errno != EAGAIN && errno != EINTR)) return;
        pollfd fds[] = {{read_end_.get(), POLLIN, 0}, {stop_read_.get(), POLLIN, 0}};
        if (::poll(fds, 2, -1) < 0) continue;
        if (fds[1].revents != 0 && (fds[0].revents & POLLIN) == 0) return;
    }
}

}  // namespace msb::runtime
