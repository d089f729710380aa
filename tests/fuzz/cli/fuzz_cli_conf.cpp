// Configuration files of every scope. The first byte chooses the scope.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/error.h"
#include "cli/conf/conf_file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace msb::cli;
    if (size == 0) return 0;
    const std::string_view text(reinterpret_cast<const char*>(data) + 1, size - 1);
    // Would read whatever files the fuzzer thinks of.
    if (text.find("patch_files") != std::string_view::npos) return 0;
    try {
        SandboxConf conf = parse_conf(static_cast<ConfScope>(data[0] % 7), text, "/tmp/c.yaml");
        merge_conf(conf, conf);
        check_conf(conf);
    } catch (const msb::Error&) {
    }
    return 0;
}
