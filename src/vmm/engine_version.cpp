#include <fmt/format.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/fd.h"
#include "base/text.h"
#include "base/time.h"
#include "vmm/accelerator.h"
#include "vmm/engine_process.h"

namespace msb::vmm {
namespace {

constexpr std::int64_t kLimitNs = 10'000'000'000;
constexpr std::size_t kMaxOutput = 64 * 1024;

[[noreturn]] void unusable(const std::filesystem::path& engine, std::string_view why) {
    throw Error(ErrorCode::kCustom,
                fmt::format("{} is not a usable QEMU: {}: `apt install qemu-system-x86`, or set "
                            "MSB_QEMU",
                            engine.string(), why));
}

// Everything the program writes until it closes its output, bounded in size and time.
std::string read_output(int fd, std::int64_t deadline_ns) {
    std::string text;
    char chunk[4096];
    while (text.size() < kMaxOutput) {
        const std::int64_t left_ms = (deadline_ns - monotonic_ns()) / 1'000'000;
        if (left_ms <= 0) break;
        pollfd poll{.fd = fd, .events = POLLIN, .revents = 0};
        if (::poll(&poll, 1, static_cast<int>(left_ms)) < 0 && errno != EINTR) break;
        if (poll.revents == 0) continue;
        const ssize_t n = ::read(fd, chunk, sizeof chunk);
        if (n <= 0) break;
        text.append(chunk, static_cast<std::size_t>(n));
    }
    return text;
}

}  // namespace

// "QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)"
std::string engine_version(const std::filesystem::path& engine) {
    PipeFds output = make_pipe();
    EngineSpawn spawn;
    spawn.executable = engine;
    spawn.arguments = {"--version"};
    spawn.output = output.write.get();
    EngineProcess process(spawn);
    output.write.reset();
    const std::string text = read_output(output.read.get(), monotonic_ns() + kLimitNs);

    constexpr std::string_view kBefore = "emulator version ";
    const std::size_t at = text.find(kBefore);
    if (at == std::string::npos) unusable(engine, "it does not state its version");
    const std::size_t begin = at + kBefore.size();
    const std::string version =
        text.substr(begin, text.find_first_not_of("0123456789.", begin) - begin);
    const auto numbers = split(version, '.');
    const auto number = [&](std::size_t i) {
        return i < numbers.size() ? parse_integer<unsigned>(numbers[i]).value_or(0) : 0u;
    };
    if (std::pair(number(0), number(1)) < std::pair(kMinimumEngineMajor, kMinimumEngineMinor))
        unusable(engine, fmt::format("it is version {}, and {}.{} or newer is needed", version,
                                     kMinimumEngineMajor, kMinimumEngineMinor));
    return version;
}

}  // namespace msb::vmm
