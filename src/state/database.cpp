// Connections and transactions. The opening sequence of host processes is in open_sequence.cpp.
#include "state/database.h"

#include <sqlite3.h>

#include <condition_variable>
#include <mutex>
#include <thread>

#include "state/open_sequence.h"
#include "state/sql.h"

namespace msb::state {

namespace fs = std::filesystem;

namespace {

// Sleeps between the 8 attempts of a transaction that found the database busy (spec/state.md section 3).
constexpr int kBusyBackoffMs[] = {10, 20, 40, 80, 160, 320, 500};
constexpr std::chrono::milliseconds kRuntimeBusyTimeout{5000};

// Rolls back unless committed. BEGIN IMMEDIATE: a writer that must wait does so before it has read anything, so no
// transaction fails half-way on a stale snapshot.
class WriteTransaction {
  public:
    explicit WriteTransaction(SQLite::Database& connection) : connection_(connection) {
        connection_.exec("BEGIN IMMEDIATE");
        open_ = true;
    }
    WriteTransaction(const WriteTransaction&) = delete;
    WriteTransaction& operator=(const WriteTransaction&) = delete;
    ~WriteTransaction() {
        if (open_) connection_.tryExec("ROLLBACK");
    }
    void commit() {
        connection_.exec("COMMIT");
        open_ = false;
    }

  private:
    SQLite::Database& connection_;
    bool open_ = false;
};

}  // namespace

std::unique_ptr<SQLite::Database> open_connection(const fs::path& file, bool create,
                                                  std::chrono::milliseconds busy_timeout) {
    // Each connection is used by one thread at a time under our own mutexes.
    const int flags = SQLite::OPEN_READWRITE | (create ? SQLite::OPEN_CREATE : 0) |
                      SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE;
    auto connection = std::make_unique<SQLite::Database>(file.string(), flags,
                                                         static_cast<int>(busy_timeout.count()));
    // Leaving the log behind saves two fsyncs per process; the next writer to reach 1000 pages checkpoints
    // (spec/state.md section 1.1: WAL files may remain after exit, upstream leaves them too).
    sqlite3_db_config(connection->getHandle(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
    connection->exec("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA foreign_keys=ON");
    return connection;
}

struct Database::Impl {
    fs::path file;
    DatabaseOptions options;
    bool readers_allowed = false;

    std::mutex writer_mutex;
    std::unique_ptr<SQLite::Database> writer;

    std::mutex readers_mutex;
    std::condition_variable reader_returned;
    std::vector<std::unique_ptr<SQLite::Database>> idle_readers;
    unsigned open_readers = 0;

    std::unique_ptr<SQLite::Database> take_reader();
    void return_reader(std::unique_ptr<SQLite::Database> reader);
};

std::unique_ptr<SQLite::Database> Database::Impl::take_reader() {
    std::unique_lock lock(readers_mutex);
    const bool free = reader_returned.wait_for(lock, options.connect_timeout, [&] {
        return !idle_readers.empty() || open_readers < options.max_connections;
    });
    if (!free)
        throw Error(ErrorCode::kDatabase,
                    "Failed to acquire connection from pool: Connection pool timed out");
    if (!idle_readers.empty()) {
        auto reader = std::move(idle_readers.back());
        idle_readers.pop_back();
        return reader;
    }
    auto reader = open_connection(file, false, options.busy_timeout);
    ++open_readers;
    return reader;
}

void Database::Impl::return_reader(std::unique_ptr<SQLite::Database> reader) {
    {
        std::lock_guard lock(readers_mutex);
        idle_readers.push_back(std::move(reader));
    }
    reader_returned.notify_one();
}

Database::Database(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Database::Database(Database&&) noexcept = default;
Database& Database::operator=(Database&&) noexcept = default;
Database::~Database() = default;

const fs::path& Database::file() const {
    return impl_->file;
}

Database Database::open(const HomePaths& home, const DatabaseOptions& options) {
    auto impl = std::make_unique<Impl>();
    impl->file = home.database();
    impl->options = options;
    impl->readers_allowed = options.max_connections > 0;
    impl->writer = open_and_migrate(home, options);
    return Database(std::move(impl));
}

Database Database::open_runtime(const fs::path& file) {
    auto impl = std::make_unique<Impl>();
    impl->file = file;
    impl->options.busy_timeout = kRuntimeBusyTimeout;
    try {
        impl->writer = open_connection(file, true, kRuntimeBusyTimeout);
    } catch (const SQLite::Exception& exception) {
        throw Error(ErrorCode::kDatabase, sql::error_text(exception));
    }
    return Database(std::move(impl));
}

void retry_while_busy(const std::function<void()>& attempt) {
    for (std::size_t failures = 0;; ++failures) {
        try {
            attempt();
            return;
        } catch (const SQLite::Exception& exception) {
            if (failures == std::size(kBusyBackoffMs) || !sql::is_busy(exception)) throw;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(kBusyBackoffMs[failures]));
    }
}

void Database::write(const std::function<void(SQLite::Database&)>& body) {
    std::lock_guard lock(impl_->writer_mutex);
    try {
        retry_while_busy([&] {
            WriteTransaction transaction(*impl_->writer);
            body(*impl_->writer);
            transaction.commit();
        });
    } catch (const SQLite::Exception& exception) {
        sql::rethrow(exception, sql::Phase::kExecution);
    }
}

void Database::read(const std::function<void(SQLite::Database&)>& body) {
    try {
        std::unique_lock writer(impl_->writer_mutex, std::defer_lock);
        if (impl_->readers_allowed ? writer.try_lock() : (writer.lock(), true)) {
            retry_while_busy([&] { body(*impl_->writer); });
            return;
        }
        // The writer is busy with a transaction of another thread: a reader of its own.
        auto reader = impl_->take_reader();
        std::exception_ptr failure;
        try {
            retry_while_busy([&] { body(*reader); });
        } catch (...) {
            failure = std::current_exception();
        }
        impl_->return_reader(std::move(reader));
        if (failure) std::rethrow_exception(failure);
    } catch (const SQLite::Exception& exception) {
        sql::rethrow(exception, sql::Phase::kQuery);
    }
}

}  // namespace msb::state
