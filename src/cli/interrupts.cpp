#include "cli/interrupts.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdint>

#include "base/error.h"

namespace msb::cli {

Interrupts::Interrupts() {
    sigemptyset(&signals_);
    for (int number : {SIGINT, SIGTERM, SIGHUP}) {
        struct sigaction action{};
        // A signal that is blocked reaches a signalfd even when it is ignored (nohup).
        if (::sigaction(number, nullptr, &action) == 0 && action.sa_handler != SIG_IGN)
            sigaddset(&signals_, number);
    }
    arrivals_ = UniqueFd(::signalfd(-1, &signals_, SFD_CLOEXEC));
    if (!arrivals_) throw_os_error(errno, "signalfd");
    finished_ = UniqueFd(::eventfd(0, EFD_CLOEXEC));
    if (!finished_) throw_os_error(errno, "eventfd");
    pthread_sigmask(SIG_BLOCK, &signals_, &before_);
    thread_ = std::thread([this] { wait(); });
}

Interrupts::~Interrupts() {
    const std::uint64_t one = 1;
    (void)!::write(finished_.get(), &one, sizeof one);
    thread_.join();
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
}

void Interrupts::wait() {
    std::array<pollfd, 2> fds{
        {{.fd = arrivals_.get(), .events = POLLIN}, {.fd = finished_.get(), .events = POLLIN}}};
    while (::poll(fds.data(), fds.size(), -1) < 0 && errno == EINTR) {
    }
    signalfd_siginfo info{};
    if ((fds[0].revents & POLLIN) == 0 ||
        ::read(arrivals_.get(), &info, sizeof info) != static_cast<ssize_t>(sizeof info))
        return;
    arrived_ = static_cast<int>(info.ssi_signo);
    source_.request_stop();
}

void Interrupts::raise_if_any() {
    if (arrived_ == 0) return;
    ::signal(arrived_, SIG_DFL);
    pthread_sigmask(SIG_UNBLOCK, &signals_, nullptr);
    ::raise(arrived_);
}

}  // namespace msb::cli
