#include "image/upper_disk.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "base/error.h"
#include "base/fd.h"
#include "base/sparse_copy.h"
#include "image/disk_file.h"
#include "image/ext4_format.h"
#include "image/ext4_grow.h"

namespace msb::image {

namespace {

constexpr std::uint64_t kMib = 1 << 20;
constexpr std::size_t kCopyBuffer = 64 * 1024;

// Runs `make` on an unpublished disk and gives its failure the words clients know.
template <class Make>
void publish_upper(const std::filesystem::path& path, Make make) {
    try {
        DiskDraft draft(path);
        make(draft.fd());
        draft.publish(false);
    } catch (const Error& e) {
        throw Error(ErrorCode::kCustom, "failed to create upper.ext4: " + e.detail());
    }
}

// Gives the formatter the bytes of a file, piece by piece from the spool.
void read_spool(const UpperContent& content, InodeId id, const Ext4PieceWriter& write) {
    std::array<std::byte, kCopyBuffer> buffer;
    for (const DataPiece& piece : content.tree[id].data) {
        for (std::uint64_t done = 0; done < piece.length;) {
            std::size_t wanted = std::min<std::uint64_t>(buffer.size(), piece.length - done);
            ssize_t n = ::pread(content.spool.get(), buffer.data(), wanted,
                                static_cast<off_t>(piece.source_offset + done));
            if (n < 0 && errno == EINTR) continue;
            if (n <= 0) throw_os_error(n < 0 ? errno : EIO, "read patch spool");
            write(piece.logical_offset + done,
                  std::span(buffer).first(static_cast<std::size_t>(n)));
            done += static_cast<std::size_t>(n);
        }
    }
}

}  // namespace

void create_upper(const std::filesystem::path& path, std::uint32_t size_mib,
                  const UpperContent& content) {
    publish_upper(path, [&](int fd) {
        format_ext4(
            content.tree,
            [&](InodeId id, const Ext4PieceWriter& write) { read_spool(content, id, write); },
            {.size = size_mib * kMib, .uuid = random_ext4_uuid(), .encoding = Ext4Encoding::kUpper},
            fd);
    });
}

void create_upper(const std::filesystem::path& path, std::uint32_t size_mib) {
    create_upper(path, size_mib, UpperContent{upper_skeleton(), {}});
}

void create_upper_from(const std::filesystem::path& captured, const std::filesystem::path& path) {
    publish_upper(path, [&](int fd) {
        UniqueFd source(::open(captured.c_str(), O_RDONLY | O_CLOEXEC));
        if (!source) throw_os_error(errno, captured.string());
        if (reflink_file(source.get(), fd) == 0) return;
        if (int err = sparse_copy_file(source.get(), fd)) throw_os_error(err, captured.string());
    });
}

bool grow_upper(const std::filesystem::path& path, std::uint32_t size_mib) {
    try {
        return grow_disk(path, size_mib * kMib);
    } catch (const Ext4CapacityError& e) {
        throw Error(ErrorCode::kCustom, "cannot grow oci upper size to " +
                                            std::to_string(size_mib) +
                                            " MiB: the existing upper.ext4 can grow to at most " +
                                            std::to_string(e.maximum() / kMib) +
                                            " MiB; recreate the sandbox for a larger upper");
    } catch (const Error& e) {
        throw Error(ErrorCode::kCustom, "failed to grow upper.ext4: " + e.detail());
    }
}

std::string shrink_refusal(std::uint32_t requested_mib, std::uint32_t current_mib) {
    return "root disk size " + std::to_string(requested_mib) + " MiB is smaller than the current " +
           std::to_string(current_mib) +
           " MiB; shrink is not supported (recreate the sandbox instead)";
}

}  // namespace msb::image
