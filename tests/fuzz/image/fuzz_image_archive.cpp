// Image archives, docker's and OCI's, as files and as pipes give them.
#include <stdlib.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <optional>

#include "base/error.h"
#include "base/fd.h"
#include "image/archive.h"
#include "seal_headers.h"

namespace {

using namespace msb::image;

// A cache that is removed at the end of the process and emptied between inputs.
class ScratchCache {
  public:
    ScratchCache() {
        std::string path = "/tmp/msb-fuzz-archive-XXXXXX";
        if (::mkdtemp(path.data()) == nullptr) std::abort();
        directory_ = path;
        cache_.emplace(directory_);
    }
    ~ScratchCache() { std::filesystem::remove_all(directory_); }
    const Cache& cache() const { return *cache_; }
    void clear() const {
        for (const char* name : {"layers", "fsmeta", "vmdk", "manifests", "tmp"}) {
            for (const auto& entry : std::filesystem::directory_iterator(directory_ / name))
                std::filesystem::remove(entry.path());
        }
    }

  private:
    std::filesystem::path directory_;
    std::optional<Cache> cache_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static ScratchCache scratch;
    msb::UniqueFd input(::memfd_create("fuzz", MFD_CLOEXEC));
    std::vector<std::byte> archive(size);
    std::copy_n(reinterpret_cast<const std::byte*>(data), size, archive.begin());
    seal_headers(archive);
    if (msb::pwrite_all(input.get(), archive, 0) != 0) std::abort();
    bool made = false;
    try {
        std::vector<LoadedReference> loaded =
            load_archive(scratch.cache(), input.get(), {.tags = {"fuzz:1"}});
        made = true;
        if (loaded.empty()) std::abort();
        for (const LoadedReference& one : loaded) {
            // What is reported is in the cache, complete.
            auto found = find_cached_image(scratch.cache(), parse_reference(one.reference),
                                           PullTarget::kLayered, nullptr);
            if (!found) std::abort();
        }
    } catch (const msb::Error& e) {
        if (e.code() != msb::ErrorCode::kCustom) std::abort();
        made = std::string_view(e.what()).contains("layer");
    }
    if (made) scratch.clear();
    return 0;
}
