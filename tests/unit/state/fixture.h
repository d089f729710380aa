// What the tests of the state library share: a home of their own, raw SQL, and processes that live and die on command.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "base/fd.h"
#include "base/file_lock.h"
#include "state/database.h"
#include "state/home.h"

namespace msb::state::test {

// A directory under /tmp (short, because of socket paths), removed at the end.
class TempHome {
  public:
    TempHome();
    ~TempHome();
    TempHome(const TempHome&) = delete;
    TempHome& operator=(const TempHome&) = delete;

    const HomePaths& paths() const { return paths_; }
    StateRoots roots() const { return paths_.roots(); }
    Database open() const;

    // SQL on a connection of its own; the database file is created when missing.
    void exec(const std::string& sql) const;
    // Rows joined by "\n", columns by "|", NULL as "NULL".
    std::string query(const std::string& sql) const;

    void write(const std::filesystem::path& relative, std::string_view content) const;

  private:
    HomePaths paths_;
};

// Sets an environment variable for a scope; nullopt unsets it.
class ScopedEnv {
  public:
    ScopedEnv(const char* name, std::optional<std::string> value);
    ~ScopedEnv();
    ScopedEnv(const ScopedEnv&) = delete;
    ScopedEnv& operator=(const ScopedEnv&) = delete;

  private:
    std::string name_;
    std::optional<std::string> before_;
};

// A child that waits until it is released or killed, and dies with the test.
class LiveProcess {
  public:
    // `body` runs in the child before it says it is ready; the constructor returns after that.
    explicit LiveProcess(const std::function<void()>& body = {});
    ~LiveProcess();
    LiveProcess(const LiveProcess&) = delete;
    LiveProcess& operator=(const LiveProcess&) = delete;

    pid_t pid() const { return pid_; }
    void kill_and_reap();

  private:
    pid_t pid_;
    UniqueFd release_;
};

// Leaves the descriptor open: the lock ends with the process.
void hold_until_death(FileLock lock);

pid_t dead_pid();  // of a process that existed and is gone

// Runs `body` in a forked child and returns the text it returned; "signal N" when it was killed.
std::string in_child(const std::function<std::string()>& body);

// what() of the Error that `body` throws; "" when it throws nothing.
std::string error_of(const std::function<void()>& body);

// Everything PRAGMA table_info, index_list, index_info and foreign_key_list say about every table, in a canonical order.
std::string describe_schema(const std::filesystem::path& database);

}  // namespace msb::state::test
