// Payloads of core.fs.* messages (spec/protocol.md section 5).
#include "protocol/payload_codec.h"

namespace msb::protocol {

namespace detail {

template <>
struct Schema<FsAttrs> {
    static constexpr std::tuple fields{
        field("mode", &FsAttrs::mode),   field("uid", &FsAttrs::uid),
        field("gid", &FsAttrs::gid),     field("size", &FsAttrs::size),
        field("atime", &FsAttrs::atime), field("mtime", &FsAttrs::mtime)};
};

template <>
struct Schema<FsOpenOptions> {
    static constexpr std::tuple fields{field("read", &FsOpenOptions::read),
                                       field("write", &FsOpenOptions::write),
                                       field("append", &FsOpenOptions::append),
                                       field("create", &FsOpenOptions::create),
                                       field("truncate", &FsOpenOptions::truncate),
                                       field("create_new", &FsOpenOptions::create_new),
                                       field("mode", &FsOpenOptions::mode)};
};

template <class Op, class... Ops>
concept OneOf = (std::same_as<Op, Ops> || ...);

template <OneOf<fs::RealPath, fs::List, fs::ReadLink, fs::Remove, fs::OpenDir> Op>
struct Schema<Op> {
    static constexpr std::tuple fields{field("path", &Op::path)};
};

template <OneOf<fs::CloseHandle, fs::FStat> Op>
struct Schema<Op> {
    static constexpr std::tuple fields{field("handle", &Op::handle)};
};

template <>
struct Schema<fs::Stat> {
    static constexpr std::tuple fields{field("path", &fs::Stat::path),
                                       field("follow_symlink", &fs::Stat::follow_symlink)};
};

template <>
struct Schema<fs::SetStat> {
    static constexpr std::tuple fields{field("path", &fs::SetStat::path),
                                       field("follow_symlink", &fs::SetStat::follow_symlink),
                                       field("attrs", &fs::SetStat::attrs)};
};

template <>
struct Schema<fs::Symlink> {
    static constexpr std::tuple fields{field("target", &fs::Symlink::target),
                                       field("link_path", &fs::Symlink::link_path)};
};

template <>
struct Schema<fs::Mkdir> {
    static constexpr std::tuple fields{field("path", &fs::Mkdir::path),
                                       field("mode", &fs::Mkdir::mode)};
};

template <>
struct Schema<fs::RemoveDir> {
    static constexpr std::tuple fields{field("path", &fs::RemoveDir::path),
                                       field("recursive", &fs::RemoveDir::recursive)};
};

template <>
struct Schema<fs::Copy> {
    static constexpr std::tuple fields{field("src", &fs::Copy::src), field("dst", &fs::Copy::dst)};
};

template <>
struct Schema<fs::Rename> {
    static constexpr std::tuple fields{field("src", &fs::Rename::src),
                                       field("dst", &fs::Rename::dst)};
};

template <>
struct Schema<fs::OpenFile> {
    static constexpr std::tuple fields{field("path", &fs::OpenFile::path),
                                       field("options", &fs::OpenFile::options)};
};

template <>
struct Schema<fs::Read> {
    static constexpr std::tuple fields{field("handle", &fs::Read::handle),
                                       field("offset", &fs::Read::offset),
                                       field("len", &fs::Read::len)};
};

template <>
struct Schema<fs::Write> {
    static constexpr std::tuple fields{field("handle", &fs::Write::handle),
                                       field("offset", &fs::Write::offset),
                                       field("len", &fs::Write::len)};
};

template <>
struct Schema<fs::ReadDir> {
    static constexpr std::tuple fields{field("handle", &fs::ReadDir::handle),
                                       field("limit", &fs::ReadDir::limit)};
};

template <>
struct Schema<fs::FSetStat> {
    static constexpr std::tuple fields{field("handle", &fs::FSetStat::handle),
                                       field("attrs", &fs::FSetStat::attrs)};
};

template <>
struct VariantNames<FsOp> {
    static constexpr std::array<std::string_view, 19> names{
        "RealPath", "Stat",      "SetStat", "List",   "ReadLink", "Symlink", "Mkdir",
        "Remove",   "RemoveDir", "Copy",    "Rename", "OpenFile", "OpenDir", "CloseHandle",
        "Read",     "Write",     "ReadDir", "FStat",  "FSetStat"};
    static_assert(names.size() == std::variant_size_v<FsOp>);
};

template <>
struct Schema<FsRequest> {
    static constexpr std::tuple fields{field("op", &FsRequest::op)};
};

template <>
struct EnumNames<FsEntryKind> {
    static constexpr std::array<std::string_view, 4> names{"file", "dir", "symlink", "other"};
};

template <>
struct Schema<FsEntry> {
    static constexpr std::tuple fields{
        field("path", &FsEntry::path),         field("kind", &FsEntry::kind),
        field("size", &FsEntry::size),         field("mode", &FsEntry::mode),
        field("modified", &FsEntry::modified), field("uid", &FsEntry::uid),
        field("gid", &FsEntry::gid),           field("atime", &FsEntry::atime),
        field("mtime", &FsEntry::mtime)};
};

template <>
struct Transparent<FsHandle> {
    static constexpr auto member = &FsHandle::handle;
};

template <>
struct Transparent<FsPath> {
    static constexpr auto member = &FsPath::path;
};

template <>
struct VariantNames<FsResponseData> {
    static constexpr std::array<std::string_view, 4> names{"Stat", "List", "Handle", "Path"};
    static_assert(names.size() == std::variant_size_v<FsResponseData>);
};

template <>
struct Schema<FsResponse> {
    static constexpr std::tuple fields{field("ok", &FsResponse::ok),
                                       field("error", &FsResponse::error),
                                       field("data", &FsResponse::data)};
};

}  // namespace detail

std::string_view to_string(FsEntryKind kind) noexcept {
    return detail::EnumNames<FsEntryKind>::names[static_cast<std::size_t>(kind)];
}

MSB_PROTOCOL_INSTANTIATE(FsRequest)
MSB_PROTOCOL_INSTANTIATE(FsResponse)
MSB_PROTOCOL_INSTANTIATE(FsData)

}  // namespace msb::protocol
