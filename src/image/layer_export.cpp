#include "image/layer_export.h"

#include <fcntl.h>

#include <cerrno>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "image/erofs_format.h"
#include "image/http.h"
#include "image/streams.h"

namespace msb::image {

namespace {

constexpr std::size_t kCopyChunk = 1 << 20;
constexpr std::string_view kWhiteout = ".wh.";
constexpr std::string_view kOpaque = ".wh..wh..opq";

char member_type(const Inode& inode) {
    switch (inode.mode & S_IFMT) {
        case S_IFLNK:
            return '2';
        case S_IFCHR:
            return '3';
        case S_IFBLK:
            return '4';
        case S_IFDIR:
            return '5';
        case S_IFIFO:
            return '6';
        case S_IFSOCK:
            return '`';  // tar has none; what layer_ingest.cpp and upstream take for a socket
        default:
            return '0';
    }
}

UniqueFd open_layer(const std::filesystem::path& path) {
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd)
        throw Error(ErrorCode::kImage,
                    "cache error at " + path.string() + ": " + os_error_text(errno));
    return fd;
}

class Exporter {
  public:
    Exporter(const FileTree& tree, int image, ByteSink& sink, const std::stop_token& stop)
        : tree_(tree), image_(image), writer_(sink), stop_(stop) {}

    // Depth first; a directory's path is in `path_` while what is below it is written.
    void run() {
        struct Level {
            const Inode* directory;
            std::map<std::string, InodeId, std::less<>>::const_iterator next;
            std::size_t path_length;
        };
        const Inode& root = tree_[FileTree::kRoot];
        std::vector<Level> levels{{&root, root.children.begin(), 0}};
        while (!levels.empty()) {
            Level& level = levels.back();
            path_.resize(level.path_length);
            if (level.next == level.directory->children.end()) {
                levels.pop_back();
                continue;
            }
            if (stop_.stop_requested()) throw_cancelled();
            const auto& [name, id] = *level.next++;
            const Inode& inode = tree_[id];
            // A name that leaves no room for the prefix stays the device that it is.
            if (inode.is_whiteout() && name.size() <= erofs::kMaxNameLength - kWhiteout.size()) {
                path_ += kWhiteout;
                path_ += name;
                add_marker(inode);
                continue;
            }
            path_ += name;
            add(inode, id);
            if (!inode.is_directory()) continue;
            path_ += '/';
            if (has_xattr(inode, kOpaqueXattr)) {
                path_ += kOpaque;
                add_marker(inode);
                path_.resize(path_.size() - kOpaque.size());
            }
            levels.push_back({&inode, inode.children.begin(), path_.size()});
        }
        writer_.finish();
    }

  private:
    void add_marker(const Inode& inode) {
        TarMember member;
        member.path = path_;
        member.mode = 0;
        member.uid = inode.uid;
        member.gid = inode.gid;
        member.mtime = inode.mtime;
        writer_.add(member, "");
    }

    void add(const Inode& inode, InodeId id) {
        TarMember member;
        member.path = path_;
        member.type = member_type(inode);
        member.mode = inode.mode & 07777;
        member.uid = inode.uid;
        member.gid = inode.gid;
        member.mtime = inode.mtime;
        member.device_major = inode.device_major;
        member.device_minor = inode.device_minor;
        member.link_target = inode.target;
        std::vector<Xattr> xattrs = inode.xattrs;
        std::erase_if(xattrs, [](const Xattr& xattr) { return xattr.name == kOpaqueXattr; });
        member.xattrs = xattrs;
        if (inode.links > 1 && !inode.is_directory()) {
            auto [first, fresh] = first_names_.try_emplace(id, path_);
            if (!fresh) {
                member.type = '1';
                member.link_target = first->second;
                member.xattrs = {};
                writer_.add(member, "");
                return;
            }
        }
        if (inode.is_regular()) member.size = inode.size;
        writer_.begin(member);
        if (inode.is_regular()) copy(inode);
        writer_.end();
    }

    // With read(2), not from the map: what is copied once need not stay in our memory.
    void copy(const Inode& inode) {
        FileSource source = FileSource::borrow(
            image_, std::uint64_t{inode.start_block} * erofs::kBlockSize, inode.size);
        std::uint64_t left = inode.size;
        while (left > 0) {
            std::size_t n = source.read(buffer_);
            if (n == 0) throw Error(ErrorCode::kImage, "layer image has become shorter");
            writer_.data(std::span(buffer_).first(n));
            left -= n;
            if (stop_.stop_requested()) throw_cancelled();
        }
    }

    const FileTree& tree_;
    int image_;
    TarWriter writer_;
    const std::stop_token& stop_;
    std::string path_;
    std::unordered_map<InodeId, std::string> first_names_;  // of inodes with several
    std::vector<std::byte> buffer_ = std::vector<std::byte>(kCopyChunk);
};

}  // namespace

LayerExport::LayerExport(const Cache& cache, std::string_view diff_id)
    : fd_(open_layer(cache.layer_image(diff_id))), reader_(ErofsReader::from_fd(fd_.get())) {}

void export_layer(const ErofsReader& reader, int image, ByteSink& sink,
                  const std::stop_token& stop) {
    FileTree tree = reader.load();
    Exporter(tree, image, sink, stop).run();
}

}  // namespace msb::image
