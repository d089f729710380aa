#include "sdk/terminal.h"

#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <thread>

#include "sdk_fixture.h"

namespace msb::test {
namespace {

using namespace microsandbox;

TEST(DetachKeys, SpecsAndBadParts) {
    EXPECT_EQ(sdk::parse_detach_keys("ctrl-p,ctrl-q"), "\x10\x11");
    EXPECT_EQ(sdk::parse_detach_keys("ctrl-]"), "\x1d");
    EXPECT_EQ(sdk::parse_detach_keys("ctrl-@"), std::string(1, '\0'));
    EXPECT_EQ(sdk::parse_detach_keys("a"), "a");
    EXPECT_EQ(text_of([] { sdk::parse_detach_keys("ctrl-"); }),
              "invalid config: invalid detach key: ctrl-");
    EXPECT_EQ(text_of([] { sdk::parse_detach_keys("ctrl-1"); }),
              "invalid config: invalid detach key: ctrl-1");
    EXPECT_EQ(text_of([] { sdk::parse_detach_keys("a,,b"); }),
              "invalid config: invalid detach key: ");
}

TEST(DetachKeys, MatchAcrossReadsAndAfterFalseStarts) {
    sdk::DetachMatcher matcher("\x10\x11");
    EXPECT_FALSE(matcher.feed("a\x10"));
    EXPECT_TRUE(matcher.feed("\x11"));
    sdk::DetachMatcher again("aab");
    EXPECT_FALSE(again.feed("aaa"));
    EXPECT_TRUE(again.feed("b")) << "the last two a's count";
    EXPECT_FALSE(sdk::DetachMatcher("").feed("x"));
}

// A process on a terminal of its own.
class PtyTest : public FakeSandboxTest {
  protected:
    // Runs `body` in a child whose standard streams are a new terminal; `master_` is ours.
    template <class Body>
    pid_t on_terminal(Body&& body) {
        winsize size{40, 120, 0, 0};
        int master = -1;
        const pid_t pid = ::forkpty(&master, nullptr, nullptr, &size);
        if (pid == 0) ::_exit(body());
        master_.reset(master);
        return pid;
    }
    std::string read_until(const std::string& wanted) {
        std::string seen;
        char c = 0;
        while (seen.find(wanted) == std::string::npos && ::read(master_.get(), &c, 1) == 1)
            seen.push_back(c);
        return seen;
    }
    void type(std::string_view text) { ASSERT_EQ(write_all(master_.get(), text), 0); }
    bool raw() {
        termios now{};
        EXPECT_EQ(::tcgetattr(master_.get(), &now), 0);
        return (now.c_lflag & ICANON) == 0;
    }
    int exit_of(pid_t pid) {
        int status = 0;
        EXPECT_EQ(::waitpid(pid, &status, 0), pid);
        return status;
    }
    UniqueFd master_;
};

TEST_F(PtyTest, AttachEchoesResizesAndReturnsTheCode) {
    const pid_t pid = on_terminal([] { return Sandbox::connect("box").attach("size") & 0xff; });
    // The initial size travels in the request; a change arrives as a resize.
    while (agent_.execs == 0)
        std::this_thread::yield();
    while (!raw())
        std::this_thread::yield();
    winsize size{30, 100, 0, 0};
    ASSERT_EQ(::ioctl(master_.get(), TIOCSWINSZ, &size), 0);
    EXPECT_THAT(read_until("30x100\n"), ::testing::HasSubstr("30x100\n"));
    type("x");
    const int status = exit_of(pid);
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST_F(PtyTest, DetachKeysEndItAndTheGuestProcessIsDropped) {
    const pid_t pid = on_terminal([] { return Sandbox::connect("box").attach("hang") & 0xff; });
    while (!raw())
        std::this_thread::yield();
    type("abc\x1d");
    const int status = exit_of(pid);
    ASSERT_TRUE(WIFEXITED(status));
    EXPECT_EQ(WEXITSTATUS(status), 255);
    while (agent_.disconnections == 0)
        std::this_thread::yield();
    EXPECT_FALSE(raw());
}

TEST_F(PtyTest, TheTerminalIsRestoredWhenASignalKillsTheProcess) {
    for (int signal : {SIGTERM, SIGHUP, SIGINT}) {
        const pid_t pid = on_terminal([] { return Sandbox::connect("box").attach("hang") & 0xff; });
        while (!raw())
            std::this_thread::yield();
        ::kill(pid, signal);
        const int status = exit_of(pid);
        ASSERT_TRUE(WIFSIGNALED(status));
        EXPECT_EQ(WTERMSIG(status), signal);
        EXPECT_FALSE(raw());
    }
}

TEST_F(PtyTest, TheTerminalIsUsableWhileTheProcessIsStopped) {
    const pid_t pid = on_terminal([] { return Sandbox::connect("box").attach("hang") & 0xff; });
    while (!raw())
        std::this_thread::yield();
    ::kill(pid, SIGTSTP);
    int status = 0;
    ASSERT_EQ(::waitpid(pid, &status, WUNTRACED), pid);
    ASSERT_TRUE(WIFSTOPPED(status));
    EXPECT_FALSE(raw());
    ::kill(pid, SIGCONT);
    while (!raw())
        std::this_thread::yield();
    type("\x1d");
    EXPECT_EQ(WEXITSTATUS(exit_of(pid)), 255);
}

TEST_F(PtyTest, SpawnFailuresAndTimeoutsLeaveTheTerminalAlone) {
    pid_t pid = on_terminal([] {
        try {
            Sandbox::connect("box").attach("missing");
        } catch (const ExecFailedError& error) {
            return error.failure().kind == "not_found" ? 10 : 11;
        }
        return 12;
    });
    EXPECT_EQ(WEXITSTATUS(exit_of(pid)), 10);
    EXPECT_FALSE(raw());
    pid = on_terminal([] {
        try {
            Sandbox::connect("box").attach("hang", {}, {.timeout = std::chrono::milliseconds(50)});
        } catch (const ExecTimeoutError&) {
            return 10;
        }
        return 12;
    });
    EXPECT_EQ(WEXITSTATUS(exit_of(pid)), 10);
    EXPECT_FALSE(raw());
    EXPECT_EQ(agent_.killed, 1);
}

TEST_F(PtyTest, LossOfTheConnectionAndHangUpEndTheSession) {
    pid_t pid = on_terminal([] { return Sandbox::connect("box").attach("drop") & 0xff; });
    EXPECT_EQ(WEXITSTATUS(exit_of(pid)), 255);
    pid = on_terminal([] {
        ::signal(SIGHUP, SIG_IGN);
        return Sandbox::connect("box").attach("hang") & 0xff;
    });
    while (!raw())
        std::this_thread::yield();
    master_.reset();  // end of input
    EXPECT_EQ(WEXITSTATUS(exit_of(pid)), 255);
}

}  // namespace
}  // namespace msb::test
