#include "base/process.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"

namespace msb {
namespace {

int wait_for(pid_t pid) {
    int status = 0;
    EXPECT_EQ(::waitpid(pid, &status, 0), pid);
    return status;
}

TEST(Process, ChildGetsExactlyTheNumberedDescriptors) {
    PipeFds pipe = make_pipe();
    SpawnOptions options;
    options.argv = {"/bin/sh", "-c",
                    "echo from-98 >/proc/self/fd/98; ls /proc/self/fd >/proc/self/fd/98"};
    options.fds = {{pipe.write.get(), 98}};
    pid_t pid = spawn(options);
    pipe.write.reset();
    std::string output = read_to_end(pipe.read.get());
    EXPECT_EQ(wait_for(pid), 0);
    EXPECT_EQ(output.substr(0, 8), "from-98\n");
    EXPECT_NE(output.find("\n98\n"), std::string::npos) << output;
    EXPECT_EQ(output.find("1000"), std::string::npos) << "the exec report pipe leaked: " << output;
}

TEST(Process, SwappedDescriptorsDoNotOverwriteEachOther) {
    PipeFds a = make_pipe();
    PipeFds b = make_pipe();
    SpawnOptions options;
    options.argv = {"/bin/sh", "-c", "eval \"echo a >&$0; echo b >&$1\"",
                    std::to_string(b.write.get()), std::to_string(a.write.get())};
    options.fds = {{a.write.get(), b.write.get()}, {b.write.get(), a.write.get()}};
    pid_t pid = spawn(options);
    a.write.reset();
    b.write.reset();
    EXPECT_EQ(read_to_end(a.read.get()), "a\n");
    EXPECT_EQ(read_to_end(b.read.get()), "b\n");
    EXPECT_EQ(wait_for(pid), 0);
}

TEST(Process, AMissingProgramIsTheCallersError) {
    SpawnOptions options;
    options.argv = {"/no/such/program"};
    try {
        spawn(options);
        FAIL() << "spawned";
    } catch (const Error& e) {
        EXPECT_EQ(e.detail(), "/no/such/program: No such file or directory (os error 2)");
    }
}

TEST(Process, AZombieIsNotAlive) {
    pid_t pid = ::fork();
    if (pid == 0) ::_exit(0);
    siginfo_t info{};
    ASSERT_EQ(::waitid(P_PID, pid, &info, WEXITED | WNOWAIT), 0);  // dead, not yet reaped
    EXPECT_FALSE(process_alive(pid));
    wait_for(pid);
    EXPECT_FALSE(process_alive(pid));
    EXPECT_TRUE(process_alive(::getpid()));
    EXPECT_FALSE(process_alive(0));
}

TEST(Process, ExitStatusReadsAsRustPrintsIt) {
    EXPECT_EQ(exit_status_text(0x0100), "exit status: 1");
    EXPECT_EQ(exit_status_text(SIGKILL), "signal: 9 (SIGKILL)");
}

}  // namespace
}  // namespace msb
