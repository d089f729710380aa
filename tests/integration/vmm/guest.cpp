#include "guest.h"

#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <stdexcept>

#include "base/text.h"
#include "base/time.h"
#include "vmm/cpio.h"
#include "vmm/parts.h"

namespace msb::vmm::test {
namespace {

constexpr std::string_view kInit = R"INIT(#!/bin/busybox sh
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox --install -s /bin
for port in /dev/vport*p1; do exec 3<>"$port"; done
echo ready >&3
while read -r line <&3; do
  eval "$line" >/output 2>&1
  echo "$? $(tr '\n' ' ' </output)" >&3
done
)INIT";

std::string initramfs() {
    CpioArchive archive;
    for (const char* directory : {"bin", "dev", "proc", "sys", "mnt"})
        archive.add_directory(directory);
    archive.add_character_device("dev/console", 5, 1, 0600);
    archive.add_file("bin/busybox", read_file("/bin/busybox"), 0755);
    archive.add_file("init", kInit, 0755);
    return archive.finish();
}

std::string output_of(const std::string& command) {
    FILE* pipe = ::popen(command.c_str(), "r");
    if (pipe == nullptr) throw std::runtime_error(command);
    std::array<char, 4096> buffer;
    const std::size_t n = std::fread(buffer.data(), 1, buffer.size(), pipe);
    if (::pclose(pipe) != 0) throw std::runtime_error(command);
    return std::string(trim({buffer.data(), n}));
}

}  // namespace

std::filesystem::path kernel() {
    std::filesystem::path path;
    if (const char* variable = std::getenv("MSB_KERNEL"); variable != nullptr && *variable != '\0')
        path = variable;
    else
        path = output_of("bash " MSB_SOURCE_DIR "/guest/kernel/build.sh --print-path");
    if (!std::filesystem::exists(path))
        throw std::runtime_error(path.string() + " does not exist: run `make kernel`");
    return path;
}

std::filesystem::path engine() {
    const char* variable = std::getenv("MSB_QEMU");
    return variable != nullptr && *variable != '\0' ? variable : "/usr/bin/qemu-system-x86_64";
}

TemporaryDirectory::TemporaryDirectory() {
    char name[] = "/tmp/vmm-machine-XXXXXX";
    if (::mkdtemp(name) == nullptr) throw std::runtime_error("mkdtemp");
    path_ = name;
}

TemporaryDirectory::~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
}

std::filesystem::path TemporaryDirectory::write(const std::string& name,
                                                std::string_view content) const {
    const auto path = path_ / name;
    std::ofstream(path, std::ios::binary) << content;
    return path;
}

std::filesystem::path TemporaryDirectory::make_disk(const std::string& name,
                                                    const std::string& options) const {
    const auto path = path_ / name;
    const std::string command = fmt::format("qemu-img create -q {} {} 8M", options, path.string());
    if (std::system(command.c_str()) != 0) throw std::runtime_error(command);
    return path;
}

std::optional<MachineExit> serve(Machine& machine, const std::function<bool()>& done) {
    const std::int64_t deadline = monotonic_ns() + kPatienceSeconds * 1'000'000'000ll;
    while (!done()) {
        if (auto exit = machine.poll_exit()) return exit;
        if (monotonic_ns() > deadline) throw std::runtime_error("the machine takes too long");
        // The short timeout is for conditions outside the machine's own descriptor.
        pollfd poll{.fd = machine.event_fd(), .events = POLLIN, .revents = 0};
        ::poll(&poll, 1, 20);
    }
    return std::nullopt;
}

MachineExit serve_until_exit(Machine& machine) {
    return *serve(machine, [] { return false; });
}

Guest::Guest(MachineConfig config) {
    config.kernel = kernel();
    config.initramfs = directory_.write("initramfs.cpio", initramfs());
    if (config.memory_mib == MachineConfig().memory_mib)
        config.memory_mib = config.max_memory_mib = 192;
    config.console_log = directory_.path() / "kernel.log";
    auto [mine, theirs] = make_socketpair();
    port_ = std::move(mine);
    set_nonblocking(port_.get(), true);
    config.ports.push_back({"agent", std::move(theirs)});
    machine_ = start_machine(std::move(config),
                             {.engine = engine(), .accelerator = AcceleratorChoice::kTcg});
}

std::string Guest::console() const {
    return read_file(directory_.path() / "kernel.log");
}

std::string Guest::read_line() {
    const auto exit = serve(*machine_, [&] {
        std::array<char, 4096> chunk;
        while (true) {
            const ssize_t n = ::read(port_.get(), chunk.data(), chunk.size());
            if (n <= 0) break;
            input_.append(chunk.data(), static_cast<std::size_t>(n));
        }
        return input_.contains('\n');
    });
    if (exit)
        throw std::runtime_error(fmt::format("the machine ended: {} {}\n{}", to_string(exit->kind),
                                             exit->detail, console()));
    const std::size_t newline = input_.find('\n');
    std::string line = input_.substr(0, newline);
    input_.erase(0, newline + 1);
    return line;
}

void Guest::wait_until_ready() {
    if (const std::string line = read_line(); line != "ready")
        throw std::runtime_error("unexpected greeting: " + line);
}

void Guest::send(const std::string& command) {
    if (const int error = write_all(port_.get(), command + "\n"); error != 0)
        throw_os_error(error, "port");
}

std::string Guest::run(const std::string& command) {
    send(command);
    const std::string line = read_line();
    if (!line.starts_with("0 ")) throw std::runtime_error(command + ": " + line);
    return std::string(trim(std::string_view(line).substr(2)));
}

}  // namespace msb::vmm::test
