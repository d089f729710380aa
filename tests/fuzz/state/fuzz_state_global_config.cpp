// config.json: every text is either refused or gives a configuration whose use does not depend on luck.
#include <cstdlib>

#include "base/error.h"
#include "state/global_config.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace msb::state;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    LocalConfig config;
    try {
        config = parse_local_config(text);
    } catch (const msb::Error&) {
        return 0;
    }
    if (parse_local_config(text) != config) std::abort();
    if (config.database.busy_timeout < std::chrono::milliseconds(0)) std::abort();
    config.home_paths().database();
    try {
        validate_sandbox_defaults(config);
        const RootDisk disk = resolve_root_disk(default_root_disk(config.sandbox_defaults),
                                                config.sandbox_defaults.memory_mib);
        if (std::holds_alternative<DiskImageRootDisk>(disk)) std::abort();
    } catch (const msb::Error&) {
    }
    return 0;
}
