// The operations of the fs service on paths and open handles (spec/guest-agent.md section 11).
//
// Everything here may block and runs on worker threads. Results carry the exact texts of the spec.
#pragma once

#include <dirent.h>

#include <cstdint>
#include <expected>
#include <memory>
#include <string>

#include "base/fd.h"
#include "protocol/messages.h"

namespace msb::agentd {

protocol::FsResponse fs_success();
protocol::FsResponse fs_success(protocol::FsResponseData data);
protocol::FsResponse fs_failure(std::string error);
// "<prefix>: TEXT (os error N)".
protocol::FsResponse fs_failure(std::string_view prefix, int err);

// A file or directory a client has open.
struct FsOpenHandle {
    struct CloseDirectory {
        void operator()(DIR* directory) const { ::closedir(directory); }
    };

    std::string path;  // as requested
    UniqueFd file;     // empty for a directory
    std::unique_ptr<DIR, CloseDirectory> directory;
    bool readable = false;
    bool writable = false;
    bool append = false;
};

protocol::FsResponse fs_apply(const protocol::fs::RealPath& op);
protocol::FsResponse fs_apply(const protocol::fs::Stat& op);
protocol::FsResponse fs_apply(const protocol::fs::SetStat& op);
protocol::FsResponse fs_apply(const protocol::fs::List& op);
protocol::FsResponse fs_apply(const protocol::fs::ReadLink& op);
protocol::FsResponse fs_apply(const protocol::fs::Symlink& op);
protocol::FsResponse fs_apply(const protocol::fs::Mkdir& op);
protocol::FsResponse fs_apply(const protocol::fs::Remove& op);
protocol::FsResponse fs_apply(const protocol::fs::RemoveDir& op);
protocol::FsResponse fs_apply(const protocol::fs::Copy& op);
protocol::FsResponse fs_apply(const protocol::fs::Rename& op);

using FsOpened = std::expected<std::shared_ptr<FsOpenHandle>, std::string>;
FsOpened fs_open(const protocol::fs::OpenFile& op);
FsOpened fs_open(const protocol::fs::OpenDir& op);

protocol::FsResponse fs_apply(const protocol::fs::FStat& op, const FsOpenHandle& handle);
protocol::FsResponse fs_apply(const protocol::fs::FSetStat& op, const FsOpenHandle& handle);
protocol::FsResponse fs_apply(const protocol::fs::ReadDir& op, const FsOpenHandle& handle);

// 0, or the errno of positioning the file (EINVAL beyond the largest offset).
int fs_seek(const FsOpenHandle& handle, std::uint64_t offset);

}  // namespace msb::agentd
