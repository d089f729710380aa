#include "agentd/pty.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <termios.h>

#include <cerrno>

#include "base/error.h"

namespace msb::agentd {

Pty open_pty(std::uint16_t rows, std::uint16_t cols) {
    Pty pty;
    pty.master.reset(::open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK));
    if (!pty.master) throw_os_error(errno, "open /dev/ptmx");
    int unlock = 0;
    if (::ioctl(pty.master.get(), TIOCSPTLCK, &unlock) != 0)
        throw_os_error(errno, "unlock the terminal");
    // Through the master rather than by name: works whatever is mounted at /dev/pts.
    pty.slave.reset(::ioctl(pty.master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
    if (!pty.slave) throw_os_error(errno, "open the terminal's slave side");
    set_window_size(pty.master.get(), rows, cols);
    return pty;
}

void set_window_size(int master, std::uint16_t rows, std::uint16_t cols) {
    winsize size{.ws_row = rows, .ws_col = cols, .ws_xpixel = 0, .ws_ypixel = 0};
    ::ioctl(master, TIOCSWINSZ, &size);
}

}  // namespace msb::agentd
