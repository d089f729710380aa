#include <SQLiteCpp/Database.h>
#include <fcntl.h>
#include <microsandbox/sandbox.h>
#include <signal.h>

#include <sstream>

#include "sdk_fixture.h"

namespace msb::test {
namespace {

using namespace microsandbox;
using ::testing::ElementsAre;

class ExecTest : public FakeSandboxTest {
  protected:
    Sandbox connect() { return Sandbox::connect("box"); }
};

std::vector<std::string> lines(const std::string& text) {
    std::vector<std::string> result;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);)
        result.push_back(line);
    return result;
}

TEST_F(ExecTest, CollectsOutputAndCode) {
    Sandbox box = connect();
    ExecOutput out = box.exec("echo", {"hello", "world"});
    EXPECT_EQ(out.stdout_bytes, "hello world\n");
    EXPECT_TRUE(out.status.success());
    out = box.exec("fail", {"3"});
    EXPECT_EQ(out.status.code, 3);
    EXPECT_EQ(out.stderr_bytes, "err\n");
    EXPECT_EQ(out.stdout_bytes, "");
}

TEST_F(ExecTest, OneConnectionServesCommandsThatFollowEachOther) {
    Sandbox box = connect();
    for (int i = 0; i < 5; ++i)
        box.exec("echo");
    box.ping();
    EXPECT_EQ(agent_.connections, 1);
    // A running command keeps its own.
    ExecHandle running = box.exec_stream("hang");
    box.exec("echo");
    EXPECT_EQ(agent_.connections, 2);
    running.kill();
    EXPECT_EQ(running.wait().code, -1);
}

TEST_F(ExecTest, SpawnFailuresAreTyped) {
    Sandbox box = connect();
    try {
        box.exec("missing");
        FAIL();
    } catch (const ExecFailedError& error) {
        EXPECT_EQ(error.code(), ErrorCode::kExecFailed);
        EXPECT_STREQ(error.what(),
                     "exec failed: spawn \"missing\": No such file or directory (os error 2)");
        EXPECT_EQ(error.failure().kind, "not_found");
        EXPECT_EQ(error.failure().errno_name, "ENOENT");
        EXPECT_EQ(error.failure().stage, "Command::spawn");
    }
    EXPECT_EQ(text_of([&] { box.exec("refuse"); }),
              "agent client error: core.error invalid_payload: decode payload: nope");
}

TEST_F(ExecTest, TimeoutKillsAndSaysSo) {
    Sandbox box = connect();
    const Error error =
        error_of([&] { box.exec("hang", {}, {.timeout = std::chrono::milliseconds(50)}); });
    EXPECT_EQ(error.code(), ErrorCode::kExecTimeout);
    EXPECT_STREQ(error.what(), "exec timed out after 50ms");
    EXPECT_EQ(agent_.killed, 1);
    EXPECT_STREQ(ExecTimeoutError(5000).what(), "exec timed out after 5s");
    EXPECT_STREQ(ExecTimeoutError(1500).what(), "exec timed out after 1.5s");
}

TEST_F(ExecTest, CancellingDropsTheSession) {
    Sandbox box = connect();
    std::stop_source source;
    std::jthread asker([&] {
        while (agent_.execs == 0)
            std::this_thread::yield();
        source.request_stop();
    });
    EXPECT_EQ(error_of([&] { box.exec("hang", {}, {}, source.get_token()); }).code(),
              ErrorCode::kCancelled);
    while (agent_.disconnections == 0)
        std::this_thread::yield();  // the guest kills it then
    EXPECT_EQ(box.exec("echo").status.code, 0);
}

TEST_F(ExecTest, InputOfEverySizeArrives) {
    Sandbox box = connect();
    for (std::size_t size :
         {std::size_t{0}, std::size_t{5}, std::size_t{70'000}, std::size_t{5'000'000}}) {
        std::string input(size, '\0');
        for (std::size_t i = 0; i < size; ++i)
            input[i] = static_cast<char>(i * 31 >> 3);
        ExecOutput out =
            box.exec("cat", {}, {.stdin_mode = StdinMode::kBytes, .stdin_bytes = input});
        EXPECT_EQ(out.stdout_bytes, input) << size;
    }
}

TEST_F(ExecTest, StreamsEventsInOrder) {
    Sandbox box = connect();
    ExecHandle handle = box.exec_stream("cat", {}, {.stdin_mode = StdinMode::kPipe});
    auto started = handle.recv();
    ASSERT_TRUE(started && std::holds_alternative<ExecStarted>(*started));
    EXPECT_EQ(std::get<ExecStarted>(*started).pid, 30u);
    EXPECT_TRUE(handle.recv_for(std::chrono::milliseconds(10)).timed_out);
    auto input = handle.take_stdin();
    ASSERT_TRUE(input);
    EXPECT_FALSE(handle.take_stdin());
    input->write("hi");
    auto out = handle.recv();
    ASSERT_TRUE(out && std::holds_alternative<ExecStdout>(*out));
    EXPECT_EQ(std::get<ExecStdout>(*out).data, "hi");
    input->close();
    input->close();
    auto end = handle.recv();
    ASSERT_TRUE(end && std::holds_alternative<ExecExited>(*end));
    EXPECT_FALSE(handle.recv());
    input->write("late");  // without effect
    handle.kill();
    EXPECT_EQ(agent_.killed, 0);
}

TEST_F(ExecTest, NullInputSendsNothing) {
    Sandbox box = connect();
    ExecHandle handle = box.exec_stream("cat");
    EXPECT_FALSE(handle.take_stdin());
    EXPECT_TRUE(std::holds_alternative<ExecStarted>(*handle.recv()));
    EXPECT_TRUE(handle.recv_for(std::chrono::milliseconds(20)).timed_out)
        << "no end of file was sent";
}

TEST_F(ExecTest, ControlsWorkFromElsewhereAndOutliveTheHandle) {
    Sandbox box = connect();
    std::optional<ExecControl> control;
    {
        ExecHandle handle =
            box.exec_stream("size", {}, {.stdin_mode = StdinMode::kPipe, .tty = true});
        control = handle.control();
        EXPECT_TRUE(std::holds_alternative<ExecStarted>(*handle.recv()));
        control->resize(30, 100);
        EXPECT_EQ(std::get<ExecStdout>(*handle.recv()).data, "30x100\n");
    }
    control->resize(1, 2);
    control->kill();
    while (agent_.disconnections == 0)
        std::this_thread::yield();
}

TEST_F(ExecTest, FramesNobodyUnderstandsAreSkipped) {
    Sandbox box = connect();
    EXPECT_EQ(box.exec("junk").status.code, 0);
    ExecHandle handle = box.exec_stream("early");
    EXPECT_TRUE(std::holds_alternative<ExecStarted>(*handle.recv()));
    auto event = handle.recv();
    ASSERT_TRUE(event && std::holds_alternative<ExecStdinError>(*event));
    EXPECT_EQ(std::get<ExecStdinError>(*event).errno_value, 32);
    EXPECT_TRUE(std::holds_alternative<ExecExited>(*handle.recv()));
}

TEST_F(ExecTest, ALostEndIsAnError) {
    Sandbox box = connect();
    EXPECT_EQ(text_of([&] { box.exec("drop"); }),
              "runtime error: exec session ended without exit event");
    EXPECT_EQ(text_of([&] { box.exec("badkind"); }),
              "runtime error: exec session ended without exit event");
    ExecHandle handle = box.exec_stream("drop");
    EXPECT_THROW(while (handle.recv()){}, Error);
    EXPECT_FALSE(handle.recv()) << "once";
}

TEST_F(ExecTest, LargeOutputIsComplete) {
    Sandbox box = connect();
    EXPECT_EQ(box.exec("flood", {"5000"}).stdout_bytes.size(), 5000u * 4096u);
}

TEST_F(ExecTest, EnvironmentOfTheCommandWins) {
    server_.reset();
    add("env",
        R"(,"env":[{"key":"A","value":"1"},{"key":"B","value":"3"}],"runtime":{"workdir":"/srv","user":"bob"})");
    Sandbox box = Sandbox::connect("env");
    EXPECT_THAT(lines(box.exec("env", {}, {.env = {{"A", "2"}}}).stdout_bytes),
                ElementsAre("B=3", "A=2"));
    EXPECT_EQ(box.exec("pwd").stdout_bytes, "/srv bob");
    EXPECT_EQ(box.exec("pwd", {}, {.cwd = "/", .user = "root"}).stdout_bytes, "/ root");
}

TEST_F(ExecTest, TerminalsGetATermVariable) {
    Sandbox box = connect();
    ::setenv("TERM", "dumb", 1);
    EXPECT_THAT(lines(box.exec("env", {}, {.tty = true}).stdout_bytes), ElementsAre("TERM=xterm"));
    ::setenv("TERM", "screen", 1);
    EXPECT_THAT(lines(box.exec("env", {}, {.tty = true}).stdout_bytes), ElementsAre("TERM=screen"));
    EXPECT_THAT(lines(box.exec("env", {}, {.env = {{"TERM", "vt100"}}, .tty = true}).stdout_bytes),
                ElementsAre("TERM=vt100"));
    EXPECT_EQ(box.exec("env").stdout_bytes, "");
    EXPECT_EQ(box.exec("pwd").stdout_bytes, "/ none");
}

TEST_F(ExecTest, DefaultCommandIsEntrypointAndCmd) {
    Sandbox box = connect();
    EXPECT_EQ(error_of([&] { box.exec_default(); }).code(), ErrorCode::kNoDefaultCommand);
    server_.reset();
    add("def", R"(,"runtime":{"entrypoint":["echo","a"],"cmd":["b"]})");
    Sandbox with = Sandbox::connect("def");
    EXPECT_EQ(with.exec_default().stdout_bytes, "a b\n");
    EXPECT_EQ(with.exec_default({{"c", "d"}}).stdout_bytes, "a c d\n");
    EXPECT_EQ(with.exec_default(std::vector<std::string>{}).stdout_bytes, "a\n");
    EXPECT_EQ(with.shell_path(), "/bin/sh");
}

TEST_F(ExecTest, LimitsAreChecked) {
    Sandbox box = connect();
    EXPECT_EQ(text_of([&] { box.exec("echo", {}, {.rlimits = {{"nofile", 5, 4}}}); }),
              "invalid config: rlimit nofile: soft (5) must not exceed hard (4)");
    EXPECT_EQ(text_of([&] { box.exec("echo", {}, {.rlimits = {{"bogus", 1, 1}}}); }),
              "invalid config: unknown rlimit resource: bogus");
    EXPECT_EQ(box.exec("echo", {}, {.rlimits = {{"NOFILE", 4, 5}}}).status.code, 0);
}

TEST_F(ExecTest, PingAndTouch) {
    Sandbox box = connect();
    EXPECT_EQ(box.ping().name, "box");
    EXPECT_GT(box.ping().latency.count(), 0);
    EXPECT_EQ(box.touch().activity_seq, 1u);
    EXPECT_EQ(Sandbox::get("box").touch().activity_seq, 2u);
    agent_.generation = 5;
    EXPECT_EQ(error_of([&] { Sandbox::get("box").ping(); }).code(),
              ErrorCode::kUnsupportedOperation);
}

TEST_F(ExecTest, AttachNeedsATerminal) {
    Sandbox box = connect();
    // The test's standard input may be one: look at a descriptor that is not.
    const int saved = ::dup(STDIN_FILENO);
    UniqueFd null(::open("/dev/null", O_RDONLY));
    ::dup2(null.get(), STDIN_FILENO);
    EXPECT_EQ(text_of([&] { box.attach("cat"); }),
              "terminal error: resolve tty path: Inappropriate ioctl for device (os error 25)");
    ::dup2(saved, STDIN_FILENO);
    ::close(saved);
    EXPECT_EQ(agent_.execs, 0) << "nothing was started";
    EXPECT_EQ(text_of([&] { box.attach("cat", {}, {.detach_keys = "ctrl-"}); }),
              "invalid config: invalid detach key: ctrl-");
}

// --- handles and rows ---------------------------------------------------------------------------------------------

TEST_F(ExecTest, ConnectNeedsARunningSandbox) {
    EXPECT_EQ(error_of([&] { Sandbox::connect("nosuch"); }).code(), ErrorCode::kSandboxNotFound);
    EXPECT_EQ(text_of([&] { Sandbox::get("nosuch"); }), "sandbox not found: nosuch");
    state::Database& database = backend().database();
    state::mark_stopped(database, state::get_sandbox(database, "box").id);
    EXPECT_EQ(text_of([&] { Sandbox::connect("box"); }),
              "sandbox 'box' is not running (status: Stopped)");
    EXPECT_EQ(text_of([&] { Sandbox::get("box").ping(); }),
              "sandbox 'box' is not running (status: Stopped); cannot ping");
    EXPECT_EQ(text_of([&] { Sandbox::get("box").touch(); }),
              "sandbox 'box' is not running (status: Stopped); cannot touch");
}

TEST_F(ExecTest, ARunningRowWithoutSocketSaysSo) {
    server_.reset();
    std::filesystem::remove(state::IpcPaths::of(backend().roots, "box").agent);
    EXPECT_EQ(text_of([&] { Sandbox::connect("box"); }),
              "sandbox \"box\" has no agent endpoint (is it running?)");
}

TEST_F(ExecTest, OldHandlesDoNotTouchASuccessor) {
    SandboxHandle old = Sandbox::get("box");
    state::Database& database = backend().database();
    state::delete_sandbox(database, state::get_sandbox(database, "box").id);
    EXPECT_EQ(error_of([&] { old.refresh(); }).code(), ErrorCode::kSandboxNotFound);
    server_.reset();
    std::filesystem::remove(state::IpcPaths::of(backend().roots, "box").agent);
    add("box");
    const std::string expected =
        "sandbox \"box\" was replaced (expected identity local:1, found local:2); refusing stale "
        "lifecycle operation";
    EXPECT_EQ(text_of([&] { old.stop(); }), expected);
    EXPECT_EQ(text_of([&] { old.kill(); }), expected);
    EXPECT_EQ(text_of([&] { old.remove(); }), expected);
    EXPECT_EQ(text_of([&] { old.start(); }), expected);
    EXPECT_EQ(text_of([&] { old.wait_until_stopped(); }), expected);
    EXPECT_EQ(Sandbox::get("box").status(), SandboxStatus::kRunning);
}

TEST_F(ExecTest, StartAndRemoveRefuseARunningSandbox) {
    EXPECT_EQ(text_of([&] { Sandbox::start("box"); }),
              "sandbox still running: cannot start sandbox 'box': already running");
    EXPECT_EQ(text_of([&] { Sandbox::remove("box"); }),
              "sandbox still running: cannot remove sandbox 'box': still running");
    Sandbox box = connect();
    EXPECT_FALSE(box.owns_lifecycle());
    EXPECT_EQ(text_of([&] { box.wait(); }), "runtime error: cannot wait: not the lifecycle owner");
    EXPECT_EQ(text_of([&] { box.stop_and_wait(); }),
              "runtime error: cannot wait: not the lifecycle owner");
}

TEST_F(ExecTest, StopOfStatusesThatNeverEnd) {
    state::Database& database = backend().database();
    database.write([](SQLite::Database& db) { db.exec("UPDATE sandbox SET status = 'Paused'"); });
    EXPECT_EQ(text_of([&] { Sandbox::get("box").stop(); }),
              "runtime error: timed out observing stopped state for sandbox 'box'");
    EXPECT_EQ(text_of([&] { Sandbox::start("box"); }),
              "sandbox still running: cannot start sandbox 'box': status is Paused (expected "
              "Created, Stopped, or "
              "Crashed)");
    EXPECT_EQ(text_of([&] { Sandbox::get("box").connect_or_start(); }),
              "sandbox 'box' is paused; resume support is required before it can be connected");
    EXPECT_EQ(text_of([&] { Sandbox::get("box").restart(); }),
              "sandbox cannot restart paused sandbox 'box': resume support is not available");
    database.write([](SQLite::Database& db) { db.exec("UPDATE sandbox SET status = 'Draining'"); });
    EXPECT_EQ(text_of([&] { Sandbox::get("box").connect_or_start(); }),
              "sandbox still running: cannot connect or start sandbox 'box': shutdown is already "
              "in progress");
}

TEST_F(ExecTest, StopOfASandboxWhoseLauncherDiedIsImmediate) {
    state::Database& database = backend().database();
    state::insert_starting(database, "orphan", "{}", false, {});
    Sandbox::get("orphan").stop();
    EXPECT_EQ(Sandbox::get("orphan").status(), SandboxStatus::kStopped);
    Sandbox::get("orphan").stop();  // stopped already
}

TEST_F(ExecTest, ListsNewestFirstWithCursorsAndLabels) {
    state::Database& database = backend().database();
    for (int i = 0; i < 4; ++i)
        state::insert_starting(database, "n" + std::to_string(i), "{}", false,
                               {{"team", i % 2 ? "a" : "b"}});
    SandboxPage page = Sandbox::list({.limit = 2});
    ASSERT_EQ(page.sandboxes.size(), 2u);
    EXPECT_EQ(page.sandboxes[0].name(), "n3");
    EXPECT_EQ(page.sandboxes[0].id(), "local:5");
    ASSERT_TRUE(page.next_cursor);
    EXPECT_EQ(*page.next_cursor, "NA");
    page = Sandbox::list({.limit = 100, .cursor = page.next_cursor});
    EXPECT_EQ(page.sandboxes.size(), 3u);
    EXPECT_FALSE(page.next_cursor);
    EXPECT_EQ(Sandbox::list_all({{"team", "a"}}).size(), 2u);
    EXPECT_EQ(Sandbox::list_all().size(), 5u);
    EXPECT_EQ(text_of([&] { Sandbox::list({.limit = 0}); }),
              "invalid config: sandbox list limit must be between 1 and 100");
    EXPECT_EQ(text_of([&] { Sandbox::list({.limit = 101}); }),
              "invalid config: sandbox list limit must be between 1 and 100");
    EXPECT_EQ(text_of([&] { Sandbox::list({.cursor = "!!"}); }),
              "invalid cursor: invalid sandbox list cursor encoding");
}

TEST_F(ExecTest, StatusNames) {
    EXPECT_EQ(to_string(SandboxStatus::kDraining), "Draining");
    EXPECT_EQ(parse_sandbox_status("crashed"), SandboxStatus::kCrashed);
    EXPECT_EQ(text_of([&] { parse_sandbox_status("bogus"); }),
              "invalid config: invalid sandbox status \"bogus\"");
}

}  // namespace
}  // namespace msb::test
