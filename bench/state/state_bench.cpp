// What every `msb` command pays before it does anything: opening an up-to-date database, and listing 1 000 sandboxes
// (DESIGN.md section 7: at most 30 ms, one query). Prints the median and the ratio to the budget or to bare SQLite.
#include <SQLiteCpp/Database.h>
#include <SQLiteCpp/Statement.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <functional>

#include "state/reconcile.h"
#include "state/sandbox_config.h"

namespace {

namespace fs = std::filesystem;
using namespace msb::state;

constexpr int kSandboxes = 1000;
constexpr int kRounds = 51;
constexpr double kListBudgetMs = 30.0;

double median_ms(const std::function<void()>& body) {
    std::vector<double> times;
    for (int i = 0; i < kRounds; ++i) {
        const auto start = std::chrono::steady_clock::now();
        body();
        times.push_back(
            std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
                .count());
    }
    std::ranges::nth_element(times, times.begin() + kRounds / 2);
    return times[kRounds / 2];
}

// 1 000 documents of ordinary size, every second one running under this process's pid.
void fill(Database& database) {
    SandboxConfig config;
    config.image = DiskImage{"/srv/images/debian.raw", DiskFormat::kRaw, std::nullopt};
    config.env = {{"PATH", "/usr/sbin:/usr/bin:/sbin:/bin"}, {"MODE", "prod"}};
    config.labels = {{"team", "edge"}, {"org.opencontainers.image.version", "1.27"}};
    for (int i = 0; i < kSandboxes; ++i) {
        config.name = "sandbox-" + std::to_string(i);
        const auto id = insert_starting(database, config.name, write_sandbox_config(config), false,
                                        config.labels);
        if (i % 2 == 0) continue;
        claim_network_slot(database, id);
        insert_run(database, id, ::getpid());
        mark_running(database, id, write_sandbox_config(config));
    }
}

}  // namespace

int main() {
    std::string directory = "/tmp/state-bench-XXXXXX";
    if (::mkdtemp(directory.data()) == nullptr) return 1;
    const HomePaths home(directory);
    {
        Database database = Database::open(home);
        fill(database);
    }
    const double bare = median_ms([&] {
        SQLite::Database connection(home.database().string(), SQLite::OPEN_READWRITE, 5000);
        SQLite::Statement query(connection, "SELECT count(*) FROM seaql_migrations");
        query.executeStep();
    });
    const double open = median_ms([&] { Database::open(home); });
    std::printf("open an up-to-date database     %7.3f ms  %.2f x bare SQLite open and one query\n",
                open, open / bare);

    Database database = Database::open(home);
    std::size_t rows = 0;
    const double list =
        median_ms([&] { rows = list_sandboxes(database, home.roots()).sandboxes.size(); });
    std::printf("list %zu sandboxes, reconciled %7.3f ms  %.2f of the 30 ms budget\n", rows, list,
                list / kListBudgetMs);
    const double page = median_ms(
        [&] { list_sandboxes(database, home.roots(), {{}, kDefaultPageSize, std::nullopt}); });
    std::printf("list one page of %u            %7.3f ms  %.2f of the whole list\n",
                kDefaultPageSize, page, page / list);
    fs::remove_all(directory);
    return rows == kSandboxes && list <= kListBudgetMs ? 0 : 1;
}
