#include "runtime/maintenance.h"

#include <signal.h>

#include <chrono>
#include <memory>
#include <thread>

#include "base/log.h"
#include "state/database.h"
#include "state/reconcile.h"

namespace msb::runtime {
namespace {

// A sweep has a budget of 250 ms.
constexpr std::chrono::milliseconds kPatience{500};

void sweep(const std::filesystem::path& file, const state::StateRoots& roots) {
    try {
        auto database = state::Database::open_runtime(file);
        state::run_maintenance(database, roots);
    } catch (const std::exception& error) {
        log(LogLevel::kDebug, "msb::maintenance", "{}", error.what());
    }
}

}  // namespace

void Maintenance::start(std::filesystem::path database, state::StateRoots roots) {
    auto promise = std::make_shared<std::promise<void>>();
    done_ = promise->get_future().share();
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);  // signals belong to the event loop's thread
    std::thread([promise, database = std::move(database), roots = std::move(roots)] {
        sweep(database, roots);
        promise->set_value();
    }).detach();
    pthread_sigmask(SIG_SETMASK, &old, nullptr);
}

bool Maintenance::finished() const {
    return !done_.valid() || done_.wait_for(kPatience) == std::future_status::ready;
}

}  // namespace msb::runtime
