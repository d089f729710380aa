#include "sdk/wait.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <ctime>

#include "base/error.h"

namespace msb::sdk {

Cancel::Cancel(std::stop_token token) : token_(std::move(token)) {
    if (!token_.stop_possible()) return;
    event_.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!event_) throw_os_error(errno, "create eventfd");
    callback_.emplace(token_, [fd = event_.get()] {
        const std::uint64_t one = 1;
        [[maybe_unused]] ssize_t n =
            ::write(fd, &one, sizeof one);  // cannot fail: the counter is far from full
    });
}

void Cancel::throw_if_requested() const {
    if (requested()) throw Error(ErrorCode::kCancelled, "operation cancelled");
}

Ready wait_for(int fd, short events, const Deadline& deadline, const Cancel& cancel) {
    for (;;) {
        cancel.throw_if_requested();
        timespec limit{};
        if (deadline) {
            auto left =
                std::chrono::duration_cast<std::chrono::nanoseconds>(*deadline - Clock::now());
            if (left.count() > 0) {
                limit.tv_sec = left.count() / 1'000'000'000;
                limit.tv_nsec = left.count() % 1'000'000'000;
            }
        }
        // poll ignores negative descriptors.
        std::array<pollfd, 2> fds{pollfd{fd, events, 0}, pollfd{cancel.fd(), POLLIN, 0}};
        int n = ::ppoll(fds.data(), fds.size(), deadline ? &limit : nullptr, nullptr);
        if (n < 0 && errno != EINTR) throw_os_error(errno, "poll");
        if (n < 0) continue;
        if (fds[1].revents != 0) cancel.throw_if_requested();
        if (fds[0].revents != 0) return Ready::kReady;
        if (deadline && Clock::now() >= *deadline) return Ready::kTimeout;
    }
}

}  // namespace msb::sdk
