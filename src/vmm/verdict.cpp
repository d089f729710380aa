#include "vmm/verdict.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>

#include "base/encoding.h"
#include "base/error.h"
#include "base/fd.h"
#include "base/json.h"
#include "base/text.h"

namespace msb::vmm {
namespace {

constexpr std::uint32_t kFormat = 1;
constexpr std::size_t kMaxFile = 16 * 1024;

std::string identity(const std::filesystem::path& path) {
    struct stat status{};
    if (::stat(path.c_str(), &status) != 0) throw_os_error(errno, path.string());
    return utf8_lossy(fmt::format("{} {} {}.{:09} {}", path.string(), status.st_size,
                                  status.st_mtim.tv_sec, status.st_mtim.tv_nsec, status.st_ino));
}

}  // namespace

VerdictKey verdict_key(const std::filesystem::path& engine, const std::filesystem::path& kernel) {
    return {.boot_id = std::string(trim(read_file("/proc/sys/kernel/random/boot_id"))),
            .engine = identity(engine),
            .kernel = identity(kernel)};
}

std::optional<Verdict> read_verdict(const std::filesystem::path& file,
                                    const VerdictKey& key) noexcept try {
    const json::Value document = json::parse(read_file(file, kMaxFile));
    const json::Reader reader(document, "Verdict");
    if (reader.integer<std::uint32_t>("format") != kFormat) return std::nullopt;
    const VerdictKey found{.boot_id = reader.string("boot_id"),
                           .engine = reader.string("engine"),
                           .kernel = reader.string("kernel")};
    if (found != key) return std::nullopt;
    Verdict verdict;
    verdict.accelerator =
        reader.variant("accelerator", {"kvm", "tcg"}) == 0 ? Accelerator::kKvm : Accelerator::kTcg;
    verdict.reason = reader.string("reason");
    verdict.probe_ms = reader.integer<std::int32_t>("probe_ms");
    return verdict;
} catch (...) {
    return std::nullopt;
}

void write_verdict(const std::filesystem::path& file, const VerdictKey& key,
                   const Verdict& verdict) {
    const json::Value document{{"format", kFormat},
                               {"boot_id", key.boot_id},
                               {"engine", key.engine},
                               {"kernel", key.kernel},
                               {"accelerator", to_string(verdict.accelerator)},
                               {"reason", verdict.reason},
                               {"probe_ms", verdict.probe_ms}};
    publish_file(file, json::dump_pretty(document) + "\n");
}

}  // namespace msb::vmm
