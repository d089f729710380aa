#include "cli/commands/copy_guest.h"

namespace msb::cli {

using microsandbox::FileKind;

NodeInfo GuestSource::info(const std::string& path) {
    const auto metadata = fs_.stat(path, false);
    NodeInfo info{NodeKind::kOther, metadata.mode & 07777};
    if (metadata.kind == FileKind::kFile) info.kind = NodeKind::kFile;
    if (metadata.kind == FileKind::kDirectory) info.kind = NodeKind::kDirectory;
    if (metadata.kind == FileKind::kSymlink) info.kind = NodeKind::kLink;
    return info;
}

std::vector<std::string> GuestSource::names(const std::string& directory) {
    std::vector<std::string> names;
    for (const auto& entry : fs_.list(directory))
        names.push_back(entry.path.substr(entry.path.rfind('/') + 1));
    return names;
}

std::string GuestSource::link_target(const std::string& path) {
    return fs_.read_link(path);
}

void GuestSource::read(const std::string& path, const ChunkSink& sink) {
    auto stream = fs_.read_stream(path);
    while (const auto chunk = stream.recv())
        sink(*chunk);
}

std::string GuestSink::path(const std::string& name) const {
    const std::string& directory = paths_.back();
    return directory.ends_with('/') ? directory + name : directory + "/" + name;
}

void GuestSink::set_mode(const std::string& target, std::uint32_t mode) {
    microsandbox::FsSetAttributes attributes;
    attributes.mode = mode & 07777;
    fs_.set_stat(target, true, attributes);
}

void GuestSink::enter(const std::string& name, std::uint32_t mode) {
    fs_.mkdir(path(name));
    paths_.push_back(path(name));
    modes_.push_back(mode);
}

void GuestSink::leave() {
    set_mode(paths_.back(), modes_.back());
    paths_.pop_back();
    modes_.pop_back();
}

void GuestSink::link(const std::string& name, const std::string& target) {
    const std::string at = path(name);
    try {
        fs_.symlink(target, at);
    } catch (const microsandbox::Error& error) {
        if (error.code() != microsandbox::ErrorCode::kSandboxFsOps) throw;
        fs_.remove(
            at);  // most likely something is there already; if not, this error says what is wrong
        fs_.symlink(target, at);
    }
}

void GuestSink::file(const std::string& name, std::uint32_t mode,
                     const std::function<void(const ChunkSink&)>& fill) {
    auto stream = fs_.write_stream(path(name));
    fill([&](std::string_view chunk) { stream.write(chunk); });
    stream.close();
    set_mode(path(name), mode);
}

}  // namespace msb::cli
