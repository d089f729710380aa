#include "agentd/fs_entry.h"

#include <fcntl.h>

#include <cerrno>
#include <climits>

#include "base/encoding.h"

namespace msb::agentd {

namespace {

using protocol::FsEntryKind;

// Numbers, keys and markers of one encoded entry, an upper bound.
constexpr std::size_t kEntryOverhead = 128;

FsEntryKind kind_of(mode_t mode) {
    if (S_ISREG(mode)) return FsEntryKind::kFile;
    if (S_ISDIR(mode)) return FsEntryKind::kDir;
    if (S_ISLNK(mode)) return FsEntryKind::kSymlink;
    return FsEntryKind::kOther;
}

protocol::FsEntry entry_at(DIR* directory, const std::string& path, const char* name) {
    std::string joined = fs_joined(path, name);
    struct stat info;
    // Gone in the meantime, or not to be looked at: the name is all there is to say.
    if (::fstatat(::dirfd(directory), name, &info, AT_SYMLINK_NOFOLLOW) != 0)
        return protocol::FsEntry{.path = std::move(joined)};
    return fs_entry(std::move(joined), info);
}

}  // namespace

protocol::FsEntry fs_entry(std::string path, const struct stat& info) {
    return {.path = std::move(path),
            .kind = kind_of(info.st_mode),
            .size = static_cast<std::uint64_t>(info.st_size),
            .mode = info.st_mode,
            .modified = info.st_mtim.tv_sec,
            .uid = info.st_uid,
            .gid = info.st_gid,
            .atime = info.st_atim.tv_sec,
            .mtime = info.st_mtim.tv_sec};
}

std::string fs_joined(std::string_view directory, std::string_view name) {
    std::string joined(directory);
    if (!joined.empty() && joined.back() != '/') joined += '/';
    joined += name;
    return utf8_lossy(joined);
}

std::expected<std::vector<protocol::FsEntry>, int> read_entries(DIR* directory,
                                                                const std::string& path,
                                                                std::size_t limit, bool& full) {
    std::vector<protocol::FsEntry> entries;
    std::size_t bytes = 0;
    full = false;
    while (entries.size() < limit) {
        // Room for the longest name there is, so that no entry has to be put back.
        if (bytes + path.size() + kEntryOverhead + 3 * NAME_MAX > kMaxListingBytes) {
            full = true;
            return entries;
        }
        errno = 0;
        const dirent* entry = ::readdir(directory);
        if (entry == nullptr && errno != 0) return std::unexpected(errno);
        if (entry == nullptr) return entries;
        std::string_view name(entry->d_name);
        if (name == "." || name == "..") continue;
        entries.push_back(entry_at(directory, path, entry->d_name));
        bytes += entries.back().path.size() + kEntryOverhead;
    }
    return entries;
}

}  // namespace msb::agentd
