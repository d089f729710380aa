// Path operations on guest files.
#include <fcntl.h>
#include <microsandbox/fs.h>
#include <microsandbox/sandbox.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "base/encoding.h"
#include "base/error.h"
#include "sdk/fs_impl.h"

namespace microsandbox {

namespace fs_op = msb::protocol::fs;
namespace sdk = msb::sdk;

namespace {

constexpr std::size_t kCopyChunk = 1u << 20;

[[noreturn]] void host_error(int err, const std::filesystem::path& path) {
    msb::throw_os_error(err, path.string());
}

}  // namespace

SandboxFs Sandbox::fs() const {
    auto impl = std::make_shared<SandboxFs::Impl>();
    impl->sandbox = impl_;
    return SandboxFs(std::move(impl));
}

SandboxFs::SandboxFs(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}
SandboxFs::SandboxFs(const SandboxFs&) = default;
SandboxFs::SandboxFs(SandboxFs&&) noexcept = default;
SandboxFs& SandboxFs::operator=(const SandboxFs&) = default;
SandboxFs& SandboxFs::operator=(SandboxFs&&) noexcept = default;
SandboxFs::~SandboxFs() = default;

// --- content ----------------------------------------------------------------------------------------------------

FsReadStream SandboxFs::read_stream(const std::string& path, std::stop_token stop) const {
    sdk::Cancel cancel(std::move(stop));
    auto connection = std::make_shared<FsConnection>(impl_->sandbox, cancel);
    const std::uint64_t handle = connection->open_file(path, {.read = true}, cancel);
    auto stream = std::make_unique<FsReadStream::Impl>(connection, handle, 0, std::nullopt, cancel);
    stream->owned_handle = handle;
    return FsReadStream(std::move(stream));
}

std::string SandboxFs::read(const std::string& path, std::stop_token stop) const {
    return read_stream(path, stop).collect(stop);
}

std::string SandboxFs::read_to_string(const std::string& path, std::stop_token stop) const {
    std::string content = read(path, std::move(stop));
    if (!msb::is_utf8(content)) throw Error(ErrorCode::kSandboxFsOps, "invalid utf-8: " + path);
    return content;
}

FsWriteStream SandboxFs::write_stream(const std::string& path, std::stop_token stop) const {
    sdk::Cancel cancel(std::move(stop));
    auto connection = std::make_shared<FsConnection>(impl_->sandbox, cancel);
    const std::uint64_t handle =
        connection->open_file(path, {.write = true, .create = true, .truncate = true}, cancel);
    auto stream = std::make_unique<FsWriteStream::Impl>(connection, handle, 0, cancel);
    stream->owned_handle = handle;
    return FsWriteStream(std::move(stream));
}

void SandboxFs::write(const std::string& path, std::string_view data, std::stop_token stop) const {
    FsWriteStream stream = write_stream(path, stop);
    stream.write(data, stop);
    stream.close(stop);
}

// --- names ------------------------------------------------------------------------------------------------------

msb::protocol::FsResponse SandboxFs::Impl::call(msb::protocol::FsOp op,
                                                std::stop_token stop) const {
    sdk::Cancel cancel(std::move(stop));
    FsConnection connection(sandbox, cancel);
    return connection.call(std::move(op), cancel);
}

std::vector<FsEntry> SandboxFs::list(const std::string& path, std::stop_token stop) const {
    return expect_list(impl_->call(fs_op::List{path}, std::move(stop)));
}
void SandboxFs::mkdir(const std::string& path, std::stop_token stop) const {
    impl_->call(fs_op::Mkdir{path, std::nullopt}, std::move(stop));
}
void SandboxFs::remove(const std::string& path, std::stop_token stop) const {
    impl_->call(fs_op::Remove{path}, std::move(stop));
}
void SandboxFs::remove_dir(const std::string& path, std::stop_token stop) const {
    impl_->call(fs_op::RemoveDir{path, true}, std::move(stop));
}
void SandboxFs::remove_empty_dir(const std::string& path, std::stop_token stop) const {
    impl_->call(fs_op::RemoveDir{path, false}, std::move(stop));
}
void SandboxFs::copy(const std::string& from, const std::string& to, std::stop_token stop) const {
    impl_->call(fs_op::Copy{from, to}, std::move(stop));
}
void SandboxFs::rename(const std::string& from, const std::string& to, std::stop_token stop) const {
    impl_->call(fs_op::Rename{from, to}, std::move(stop));
}
std::string SandboxFs::read_link(const std::string& path, std::stop_token stop) const {
    return expect_path(impl_->call(fs_op::ReadLink{path}, std::move(stop)), "readlink");
}
void SandboxFs::symlink(const std::string& target, const std::string& link,
                        std::stop_token stop) const {
    impl_->call(fs_op::Symlink{target, link}, std::move(stop));
}
std::string SandboxFs::real_path(const std::string& path, std::stop_token stop) const {
    return expect_path(impl_->call(fs_op::RealPath{path}, std::move(stop)), "realpath");
}
FsMetadata SandboxFs::stat(const std::string& path, bool follow, std::stop_token stop) const {
    return public_metadata(
        expect_stat(impl_->call(fs_op::Stat{path, follow}, std::move(stop)), "stat"));
}
void SandboxFs::set_stat(const std::string& path, bool follow, const FsSetAttributes& attributes,
                         std::stop_token stop) const {
    impl_->call(fs_op::SetStat{path, follow, wire_attributes(attributes)}, std::move(stop));
}
bool SandboxFs::exists(const std::string& path, std::stop_token stop) const {
    try {
        stat(path, true, std::move(stop));
        return true;
    } catch (const Error& error) {
        if (error.code() != ErrorCode::kSandboxFsOps) throw;
        return false;
    }
}

// --- host files -------------------------------------------------------------------------------------------------

void SandboxFs::copy_from_host(const std::filesystem::path& host, const std::string& guest,
                               std::stop_token stop) const {
    msb::UniqueFd file(::open(host.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY));
    if (!file) host_error(errno, host);
    struct stat info{};
    if (::fstat(file.get(), &info) != 0) host_error(errno, host);
    if (!S_ISREG(info.st_mode)) throw Error(ErrorCode::kIo, host.string() + ": not a regular file");
    FsWriteStream stream = write_stream(guest, stop);
    std::string chunk(kCopyChunk, '\0');
    for (;;) {
        const ssize_t n = ::read(file.get(), chunk.data(), chunk.size());
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) host_error(errno, host);
        if (n == 0) break;
        stream.write(std::string_view(chunk.data(), static_cast<std::size_t>(n)), stop);
    }
    stream.close(stop);
    set_stat(guest, true, {.mode = info.st_mode & 07777}, stop);
}

void SandboxFs::copy_to_host(const std::string& guest, const std::filesystem::path& host,
                             std::stop_token stop) const {
    const FsMetadata metadata = stat(guest, true, stop);
    if (metadata.kind != FileKind::kFile)
        throw Error(ErrorCode::kSandboxFsOps, guest + ": not a regular file");
    FsReadStream stream = read_stream(guest, stop);
    msb::ReplacementFile file(host);
    if (file.fd() < 0) host_error(errno, file.directory());
    while (auto chunk = stream.recv(stop)) {
        if (int err = msb::write_all(file.fd(), *chunk)) host_error(err, host);
    }
    // Set-id and sticky bits a guest chose mean nothing good on the host.
    if (int err = file.publish(metadata.mode & 0777, false)) host_error(err, host);
}

// --- handles ----------------------------------------------------------------------------------------------------

FsFile SandboxFs::open_file(const std::string& path, const FsOpenOptions& options,
                            std::stop_token stop) const {
    sdk::Cancel cancel(std::move(stop));
    auto impl = std::make_unique<FsFile::Impl>();
    impl->connection = std::make_shared<FsConnection>(impl_->sandbox, cancel);
    impl->closed = true;  // until it is open
    impl->handle = impl->connection->open_file(path, options, cancel);
    impl->closed = false;
    return FsFile(std::move(impl));
}

FsDir SandboxFs::open_dir(const std::string& path, std::stop_token stop) const {
    sdk::Cancel cancel(std::move(stop));
    auto impl = std::make_unique<FsDir::Impl>();
    impl->connection = std::make_shared<FsConnection>(impl_->sandbox, cancel);
    impl->closed = true;
    impl->handle =
        expect_handle(impl->connection->call(fs_op::OpenDir{path}, cancel), "open directory");
    impl->closed = false;
    return FsDir(std::move(impl));
}

}  // namespace microsandbox
