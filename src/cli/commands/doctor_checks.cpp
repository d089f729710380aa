#include "cli/commands/doctor_checks.h"

#include <fcntl.h>
#include <microsandbox/backend.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>

#include "base/error.h"
#include "base/fd.h"
#include "base/process.h"
#include "base/sparse_copy.h"
#include "base/text.h"
#include "cli/report.h"
#include "state/global_config.h"
#include "vmm/accelerator.h"
#include "vmm/parts.h"

namespace msb::cli {

namespace {

constexpr const char* kKvm = "/dev/kvm";
constexpr std::size_t kMaxCpuinfo = 16 << 20;

bool in_path(const std::string& program) {
    const char* path = std::getenv("PATH");
    for (auto directory : split(path ? path : "", ':')) {
        if (directory.empty()) continue;
        if (::access((std::string(directory) + "/" + program).c_str(), X_OK) == 0) return true;
    }
    return false;
}

void check_config(Diagnosis& diagnosis) {
    try {
        (void)microsandbox::backend_info();
        const auto file = state::config_file_path();
        std::error_code ignored;
        if (std::filesystem::exists(file, ignored)) (void)state::load_local_config_strict(file);
    } catch (...) {
        diagnosis.rows.push_back({Verdict::kBad, "config", "invalid"});
        diagnosis.findings.push_back(
            {true, "config.json cannot be used", {current_exception_text()}, std::nullopt});
    }
}

// Kernel, initramfs and engine; nullopt when one is missing.
std::optional<vmm::Parts> check_parts(Diagnosis& diagnosis) {
    const std::string self = self_executable();
    diagnosis.rows.push_back({Verdict::kGood, "msb", self});
    try {
        auto parts = vmm::find_parts(self);
        diagnosis.rows.push_back({Verdict::kGood, "kernel", parts.kernel.string()});
        diagnosis.rows.push_back({Verdict::kGood, "initramfs", parts.initramfs.string()});
        const std::string version = vmm::engine_version(parts.engine);
        diagnosis.rows.push_back(
            {Verdict::kGood, "engine", parts.engine.string() + " (QEMU " + version + ")"});
        return parts;
    } catch (...) {
        const std::string text = current_exception_text();
        diagnosis.rows.push_back({Verdict::kBad, "engine", "incomplete"});
        Finding finding{true, "the machine cannot be started", {}, std::nullopt};
        for (auto line : split(text, '\n'))
            if (!trim(line).empty()) finding.lines.emplace_back(trim(line));
        const bool no_engine = text.find("qemu-system-x86_64") != std::string::npos ||
                               text.find("engine") != std::string::npos;
        const bool chosen = std::getenv("MSB_QEMU") != nullptr;
        if (no_engine && !chosen && in_path("apt-get"))
            finding.fix = Fix{"install QEMU", {{"apt-get", "install", "-y", "qemu-system-x86"}}};
        diagnosis.findings.push_back(std::move(finding));
        return std::nullopt;
    }
}

// Asks the file system itself: two temporary files, one cloned into the other.
bool supports_reflink(const std::filesystem::path& directory) {
    const UniqueFd source = make_unnamed_file(directory);
    const UniqueFd target = make_unnamed_file(directory);
    if (!source || !target || write_all(source.get(), std::string_view("reflink")) != 0)
        return false;
    return reflink_file(source.get(), target.get()) == 0;
}

void check_home(Diagnosis& diagnosis) {
    const auto home = microsandbox::home_directory();
    std::error_code ignored;
    if (!std::filesystem::is_directory(home, ignored)) return;
    const bool reflink = supports_reflink(home);
    diagnosis.rows.push_back(
        {reflink ? Verdict::kGood : Verdict::kNotice, "Root clone",
         reflink ? "reflink supported" : "copy fallback — reflink unavailable"});
}

std::string user_name() {
    const passwd* entry = ::getpwuid(::getuid());
    return entry ? entry->pw_name : std::to_string(::getuid());
}

void check_kvm(Diagnosis& diagnosis) {
    std::string cpuinfo;
    try {
        cpuinfo = read_file("/proc/cpuinfo", kMaxCpuinfo);
    } catch (const Error&) {
        cpuinfo.clear();  // without /proc the flag is simply not found
    }
    const std::string flag = cpu_virtualization(cpuinfo);
    const bool device = ::access(kKvm, F_OK) == 0;
    const UniqueFd opened(device ? ::open(kKvm, O_RDWR | O_CLOEXEC) : -1);
    const int error = opened ? 0 : errno;
    diagnosis.rows.push_back({flag.empty() ? Verdict::kNotice : Verdict::kGood, "CPU virt",
                              flag.empty() ? "not found" : flag});
    diagnosis.rows.push_back(
        {device ? Verdict::kGood : Verdict::kNotice, "KVM device", device ? kKvm : "not found"});
    diagnosis.rows.push_back({opened ? Verdict::kGood : Verdict::kNotice, "KVM access",
                              opened            ? "read/write"
                              : error == EACCES ? "permission denied"
                                                : "unavailable"});
    if (!device && !flag.empty()) {
        const std::string module = flag == "vmx" ? "kvm_intel" : "kvm_amd";
        diagnosis.findings.push_back({false,
                                      "KVM is not loaded although the processor has it",
                                      {"sandboxes run under software emulation until it is"},
                                      Fix{"load " + module, {{"modprobe", module}}}});
    }
    if (device && !opened && error == EACCES)
        diagnosis.findings.push_back(
            {false,
             std::string(kKvm) + " may not be opened by this user",
             {"sandboxes run under software emulation until it may", "log in again after the fix"},
             Fix{"add " + user_name() + " to the kvm group",
                 {{"usermod", "-aG", "kvm", user_name()}}}});
}

void check_accelerator(Diagnosis& diagnosis, const vmm::Parts& parts) {
    vmm::EngineOptions options;
    options.engine = parts.engine;
    const auto home = microsandbox::home_directory();
    std::error_code ignored;
    if (std::filesystem::is_directory(home, ignored)) {
        std::filesystem::create_directories(home / "cache", ignored);
        options.verdict_file = home / "cache" / "accel.json";
    }
    const auto report = vmm::probe_report(parts.kernel, options);
    const bool kvm = report.accelerator == vmm::Accelerator::kKvm;
    diagnosis.rows.push_back(
        {kvm ? Verdict::kGood : Verdict::kNotice, "accelerator",
         std::string(vmm::to_string(report.accelerator)) + " (" + report.reason + ")"});
    const char* demanded = std::getenv("MSB_ACCEL");
    if (kvm) return;
    if (demanded && std::string_view(demanded) == "kvm") {
        diagnosis.findings.push_back(
            {true, "MSB_ACCEL=kvm, but KVM does not work here", {report.reason}, std::nullopt});
        return;
    }
    diagnosis.findings.push_back(
        {false,
         "sandboxes run under software emulation (TCG)",
         {"it is slower than KVM by a factor of 3 to 20, depending on the work",
          "its developers do not vouch for it as a security boundary: do not run hostile code on "
          "it",
          "set MSB_ACCEL=kvm to refuse to start without KVM"},
         std::nullopt});
}

}  // namespace

bool Diagnosis::healthy() const {
    return std::none_of(findings.begin(), findings.end(),
                        [](const Finding& finding) { return finding.problem; });
}

std::string cpu_virtualization(const std::string& cpuinfo) {
    for (auto line : split(cpuinfo, '\n')) {
        if (!line.starts_with("flags")) continue;
        for (auto word : split(line, ' '))
            if (word == "vmx" || word == "svm") return std::string(word);
        return "";
    }
    return "";
}

Diagnosis diagnose() {
    Diagnosis diagnosis;
    check_config(diagnosis);
    const auto parts = check_parts(diagnosis);
    check_home(diagnosis);
    check_kvm(diagnosis);
    if (parts) check_accelerator(diagnosis, *parts);
    return diagnosis;
}

}  // namespace msb::cli
