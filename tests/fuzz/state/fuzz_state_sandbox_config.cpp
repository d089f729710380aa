// The sandbox document: whatever is accepted is written in one form, and that form reads back as the same value and is
// written the same again. Validation must survive every value the reader lets through.
#include <cstdlib>

#include "base/error.h"
#include "state/sandbox_config.h"
#include "state/validation.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace msb::state;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    SandboxConfig config;
    try {
        config = parse_sandbox_config(text);
    } catch (const msb::Error&) {
        return 0;
    }
    const std::string written = write_sandbox_config(config);
    const SandboxConfig again = parse_sandbox_config(written);
    if (again != config || write_sandbox_config(again) != written) std::abort();
    if (image_display(text) != image_display(config.image)) std::abort();
    try {
        config.image = OciImage{"x", std::nullopt};  // no file system access by fuzzed paths
        std::erase_if(config.mounts, [](const Mount& mount) {
            return std::holds_alternative<DiskImageMount>(mount);
        });
        validate_builder(config);
        // Validated mounts are a fixed point of normalising and sorting.
        std::vector<Mount> mounts = config.mounts;
        validate_and_sort_mounts(mounts);
        if (mounts != config.mounts) std::abort();
    } catch (const msb::Error&) {
    }
    return 0;
}
