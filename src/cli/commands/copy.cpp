// copy (spec/cli.md section 7).
#include <microsandbox/sandbox.h>
#include <sys/stat.h>

#include <filesystem>

#include "cli/commands/borrowed.h"
#include "cli/commands/commands.h"
#include "cli/commands/copy_guest.h"
#include "cli/commands/copy_host.h"
#include "cli/report.h"
#include "cli/spinner.h"
#include "cli/values.h"

namespace msb::cli {

namespace {

struct Endpoint {
    std::optional<std::string> sandbox;  // unset: the host
    std::string path;
};

Endpoint parse_endpoint(const std::string& text) {
    const auto colon = text.find(':');
    if (is_path(text) || colon == std::string::npos) return {std::nullopt, text};
    Endpoint endpoint{text.substr(0, colon), text.substr(colon + 1)};
    if (!endpoint.path.starts_with('/'))
        fail_value("ambiguous copy endpoint `" + text +
                   "`; use SANDBOX:/absolute/path for sandbox paths or prefix local paths with ./");
    try {
        check_sandbox_name(*endpoint.sandbox);
    } catch (const std::exception& error) {
        fail_value("invalid sandbox endpoint `" + text + "`: " + error.what());
    }
    return endpoint;
}

// Directory and name the copy gets.
struct Destination {
    std::string directory;
    std::string name;
};

Destination split_path(const std::string& path) {
    std::string trimmed = path;
    while (trimmed.size() > 1 && trimmed.ends_with('/'))
        trimmed.pop_back();
    const auto slash = trimmed.rfind('/');
    if (slash == std::string::npos) return {".", base_name(trimmed)};
    return {slash == 0 ? "/" : trimmed.substr(0, slash), base_name(trimmed)};
}

Destination host_destination(const std::string& path, const std::string& source_path,
                             bool directory) {
    struct stat status{};
    if (::lstat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode))
        return {path, base_name(source_path)};
    auto destination = split_path(path);
    if (directory) std::filesystem::create_directories(destination.directory);
    return destination;
}

Destination guest_destination(const microsandbox::SandboxFs& fs, const std::string& path,
                              const std::string& source_path, bool directory) {
    bool into = path.ends_with('/');
    if (!into) {
        try {
            into = fs.stat(path, false).kind == microsandbox::FileKind::kDirectory;
        } catch (const microsandbox::Error& error) {
            if (error.code() != microsandbox::ErrorCode::kSandboxFsOps) throw;
        }
    }
    const auto destination = into ? Destination{path, base_name(source_path)} : split_path(path);
    if (directory) fs.mkdir(destination.directory);
    return destination;
}

void copy_between(const Endpoint& from, BorrowedSandbox* source_box, const Endpoint& to,
                  BorrowedSandbox* target_box) {
    std::unique_ptr<TreeSource> source;
    if (source_box) {
        source = std::make_unique<GuestSource>((*source_box)->fs());
    } else {
        source = std::make_unique<HostSource>();
    }
    const bool directory = source->info(from.path).kind == NodeKind::kDirectory;
    if (target_box) {
        const auto destination =
            guest_destination((*target_box)->fs(), to.path, from.path, directory);
        GuestSink sink((*target_box)->fs(), destination.directory);
        copy_tree(*source, from.path, sink, destination.name);
    } else {
        const auto destination = host_destination(to.path, from.path, directory);
        HostSink sink(destination.directory);
        copy_tree(*source, from.path, sink, destination.name);
    }
}

}  // namespace

int copy_command(const Matches& matches) {
    const auto from = parse_endpoint(matches.value("SOURCE").value());
    const auto to = parse_endpoint(matches.value("DESTINATION").value());
    if (!from.sandbox && !to.sandbox)
        fail_value("msb copy requires at least one sandbox endpoint (SANDBOX:/path)");
    const bool quiet = matches.has("quiet");

    std::optional<BorrowedSandbox> source;
    std::optional<BorrowedSandbox> target;
    if (from.sandbox) source.emplace(microsandbox::Sandbox::get(*from.sandbox), quiet);
    if (to.sandbox && to.sandbox == from.sandbox) {
        target = source;  // one sandbox, borrowed once
    } else if (to.sandbox) {
        target.emplace(microsandbox::Sandbox::get(*to.sandbox), quiet);
    }

    int code = 0;
    try {
        const Spinner spinner("Copying", matches.value("SOURCE").value(), quiet);
        copy_between(from, source ? &*source : nullptr, to, target ? &*target : nullptr);
    } catch (...) {
        code = report_current_exception();
    }
    if (target && to.sandbox != from.sandbox) target->give_back();
    if (source) source->give_back();
    return code;
}

}  // namespace msb::cli
