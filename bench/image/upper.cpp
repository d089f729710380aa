// What a new sandbox pays for its writable disk: time and space, against the budget of issue 3 (8 GiB apparent in at most 5
// ms and 4 MiB). Files are made in a new directory below TMPDIR (/tmp).
#include <stdlib.h>
#include <sys/stat.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "image/patch.h"
#include "image/upper_disk.h"

namespace {

using namespace msb::image;

constexpr int kRounds = 50;
constexpr std::uint32_t kSizeMib = 8192;
constexpr double kBudgetMs = 5;
constexpr double kBudgetMib = 4;

class TemporaryDirectory {
  public:
    TemporaryDirectory() {
        const char* base = ::getenv("TMPDIR");
        std::string pattern = std::string(base != nullptr ? base : "/tmp") + "/msb-bench-XXXXXX";
        if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
        path_ = pattern;
    }
    ~TemporaryDirectory() {
        std::error_code ec;
        std::filesystem::remove_all(path_, ec);
    }
    const std::filesystem::path& path() const { return path_; }

  private:
    std::filesystem::path path_;
};

double milliseconds(const std::function<void()>& action) {
    auto start = std::chrono::steady_clock::now();
    action();
    return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
        .count();
}

// Median and 90th percentile of the rounds.
void report(const char* name, double budget, std::vector<double> times) {
    std::ranges::sort(times);
    double median = times[times.size() / 2];
    std::printf("%-34s %7.2f ms  p90 %7.2f ms", name, median, times[times.size() * 9 / 10]);
    if (budget > 0) std::printf("  %.2f of the budget of %.0f ms", median / budget, budget);
    std::printf("\n");
}

}  // namespace

int main() {
    TemporaryDirectory directory;
    std::filesystem::path disk = directory.path() / "upper.ext4";
    std::vector<double> plain;
    std::vector<double> patched;
    std::vector<double> grown;
    std::vector<Patch> patches{WriteFilePatch{"/etc/hostname", "bench\n", {}, false},
                               MkdirPatch{"/srv/app", {}}, SymlinkPatch{"/srv", "/www", false}};
    for (int i = 0; i < kRounds; ++i) {
        std::filesystem::remove(disk);
        patched.push_back(milliseconds(
            [&] { create_upper(disk, kSizeMib, patch_upper(patches, {}, directory.path())); }));
        std::filesystem::remove(disk);
        plain.push_back(milliseconds([&] { create_upper(disk, kSizeMib); }));
    }
    report("upper 8 GiB", kBudgetMs, plain);
    report("upper 8 GiB, 3 patches", kBudgetMs, patched);

    struct stat st{};
    if (::stat(disk.c_str(), &st) != 0) return 1;
    double allocated = static_cast<double>(st.st_blocks) * 512 / (1 << 20);
    std::printf("%-34s %7.2f MiB  %.2f of the budget of %.0f MiB\n", "upper 8 GiB, allocated",
                allocated, allocated / kBudgetMib, kBudgetMib);

    for (int i = 0; i < 5; ++i) {
        std::filesystem::remove(disk);
        create_upper(disk, kSizeMib / 2);
        grown.push_back(milliseconds([&] { grow_upper(disk, kSizeMib); }));
    }
    report("grow 4 GiB to 8 GiB", 0, grown);
    return 0;
}
