#include "vmm/parts.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "base/error.h"
#include "base/text.h"

namespace msb::vmm {
namespace {

constexpr std::string_view kEngineName = "qemu-system-x86_64";

std::string environment(const char* name) {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
}

bool is_readable_file(const std::filesystem::path& path) {
    std::error_code ignored;
    return std::filesystem::is_regular_file(path, ignored) && ::access(path.c_str(), R_OK) == 0;
}

bool is_program(const std::filesystem::path& path) {
    std::error_code ignored;
    return std::filesystem::is_regular_file(path, ignored) && ::access(path.c_str(), X_OK) == 0;
}

struct Problems {
    std::vector<std::string> lines;
    void add(std::string line) { lines.push_back(std::move(line)); }
};

std::filesystem::path find_image(const char* variable, const std::filesystem::path& fallback,
                                 std::string_view what, Problems& problems) {
    if (const std::string value = environment(variable); !value.empty()) {
        if (!is_readable_file(value))
            problems.add(fmt::format("{} {} does not exist or cannot be read: correct {}", what,
                                     value, variable));
        return value;
    }
    if (!is_readable_file(fallback))
        problems.add(
            fmt::format("{} {} does not exist or cannot be read: run `make build`, or set {} to "
                        "where it is",
                        what, fallback.string(), variable));
    return fallback;
}

std::filesystem::path find_engine(Problems& problems) {
    if (const std::string value = environment("MSB_QEMU"); !value.empty()) {
        if (!is_program(value))
            problems.add(
                fmt::format("engine {} is not an executable file: correct MSB_QEMU", value));
        return value;
    }
    const std::string path = environment("PATH");
    for (const std::string_view directory : split(path, ':')) {
        if (directory.empty() || directory.front() != '/') continue;  // never the working directory
        const auto candidate = std::filesystem::path(directory) / kEngineName;
        if (is_program(candidate)) return candidate;
    }
    problems.add(
        fmt::format("{} was not found in PATH: `apt install qemu-system-x86`, or set MSB_QEMU to "
                    "where it is",
                    kEngineName));
    return {};
}

}  // namespace

Parts find_parts(const std::filesystem::path& executable) {
    Problems problems;
    const auto library = executable.parent_path().parent_path() / "lib" / "microsandbox";
    Parts parts;
    parts.kernel = find_image("MSB_KERNEL", library / "vmlinux", "guest kernel", problems);
    parts.initramfs =
        find_image("MSB_INITRAMFS", library / "initramfs.cpio", "guest initramfs", problems);
    parts.engine = find_engine(problems);
    if (!problems.lines.empty()) throw Error(ErrorCode::kCustom, join(problems.lines, "\n"));
    return parts;
}

}  // namespace msb::vmm
