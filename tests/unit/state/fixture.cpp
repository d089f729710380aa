#include "fixture.h"

#include <SQLiteCpp/Database.h>
#include <SQLiteCpp/Statement.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "base/error.h"

namespace msb::state::test {

namespace fs = std::filesystem;

namespace {

fs::path make_directory() {
    std::string name = "/tmp/state-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) throw_os_error(errno, "mkdtemp");
    return name;
}

SQLite::Database raw(const fs::path& file) {
    return SQLite::Database(file.string(), SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE, 5000);
}

std::string rows(SQLite::Database& connection, const std::string& sql) {
    SQLite::Statement statement(connection, sql);
    std::string text;
    while (statement.executeStep()) {
        if (!text.empty()) text += '\n';
        for (int i = 0; i < statement.getColumnCount(); ++i) {
            if (i > 0) text += '|';
            text += statement.getColumn(i).isNull() ? "NULL" : statement.getColumn(i).getString();
        }
    }
    return text;
}

}  // namespace

TempHome::TempHome() : paths_(make_directory()) {}

TempHome::~TempHome() {
    std::error_code error;
    fs::remove_all(paths_.home(), error);
}

Database TempHome::open() const {
    return Database::open(paths_);
}

void TempHome::exec(const std::string& sql) const {
    fs::create_directories(paths_.database_dir());
    SQLite::Database connection = raw(paths_.database());
    connection.exec(sql);
}

std::string TempHome::query(const std::string& sql) const {
    SQLite::Database connection = raw(paths_.database());
    return rows(connection, sql);
}

void TempHome::write(const fs::path& relative, std::string_view content) const {
    const fs::path path = paths_.home() / relative;
    fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << content;
}

ScopedEnv::ScopedEnv(const char* name, std::optional<std::string> value) : name_(name) {
    if (const char* before = std::getenv(name)) before_ = before;
    if (value)
        ::setenv(name, value->c_str(), 1);
    else
        ::unsetenv(name);
}

ScopedEnv::~ScopedEnv() {
    if (before_)
        ::setenv(name_.c_str(), before_->c_str(), 1);
    else
        ::unsetenv(name_.c_str());
}

LiveProcess::LiveProcess(const std::function<void()>& body) {
    PipeFds release = make_pipe();
    PipeFds ready = make_pipe();
    pid_ = ::fork();
    if (pid_ < 0) throw_os_error(errno, "fork");
    if (pid_ == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        release.write.reset();
        int status = 0;
        try {
            if (body) body();
        } catch (...) {
            status = 1;
        }
        char byte = 'r';
        if (status == 0 && ::write(ready.write.get(), &byte, 1) != 1) status = 1;
        while (status == 0 && ::read(release.read.get(), &byte, 1) < 0) {
        }
        ::_exit(status);
    }
    ready.write.reset();
    release_ = std::move(release.write);
    char byte = 0;
    if (::read(ready.read.get(), &byte, 1) != 1) throw std::runtime_error("child failed");
}

LiveProcess::~LiveProcess() {
    kill_and_reap();
}

void LiveProcess::kill_and_reap() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = 0;
}

void hold_until_death(FileLock lock) {
    static_cast<void>(lock.release_fd().release());
}

pid_t dead_pid() {
    LiveProcess process;
    const pid_t pid = process.pid();
    process.kill_and_reap();
    return pid;
}

std::string in_child(const std::function<std::string()>& body) {
    PipeFds result = make_pipe();
    const pid_t pid = ::fork();
    if (pid < 0) throw_os_error(errno, "fork");
    if (pid == 0) {
        std::string text;
        try {
            text = body();
        } catch (const std::exception& exception) {
            text = exception.what();
        }
        write_all(result.write.get(), text);
        ::_exit(0);
    }
    result.write.reset();
    std::string text = read_to_end(result.read.get());
    int status = 0;
    ::waitpid(pid, &status, 0);
    return WIFSIGNALED(status) ? "signal " + std::to_string(WTERMSIG(status)) : text;
}

std::string error_of(const std::function<void()>& body) {
    try {
        body();
    } catch (const Error& error) {
        return error.what();
    }
    return "";
}

std::string describe_schema(const fs::path& file) {
    SQLite::Database connection = raw(file);
    return rows(connection, R"sql(
        SELECT line FROM (
            SELECT 'column ' || m.name || '.' || c.name || ' ' || upper(c.type) || ' ' ||
                c."notnull" || ' ' || coalesce(upper(c.dflt_value), '-') || ' ' || c.pk AS line
            FROM sqlite_master m JOIN pragma_table_info(m.name) c WHERE m.type = 'table'
            UNION ALL
            SELECT 'index ' || m.name || ' ' || (CASE i.origin WHEN 'c' THEN i.name ELSE i.origin END)
                || ' unique=' || i."unique" || ' partial=' || i.partial || ' on ' ||
                (SELECT group_concat(coalesce(x.name, '?')) FROM pragma_index_info(i.name) x)
            FROM sqlite_master m JOIN pragma_index_list(m.name) i WHERE m.type = 'table'
            UNION ALL
            SELECT 'key ' || m.name || ' ' || f."from" || ' -> ' || f."table" || '.' || f."to" ||
                ' ' || f.on_update || ' ' || f.on_delete
            FROM sqlite_master m JOIN pragma_foreign_key_list(m.name) f WHERE m.type = 'table'
            UNION ALL
            SELECT 'autoincrement ' || name FROM sqlite_master
            WHERE type = 'table' AND sql LIKE '%AUTOINCREMENT%'
        ) WHERE line NOT LIKE '% sqlite\_%' ESCAPE '\' ORDER BY line)sql");
}

}  // namespace msb::state::test
