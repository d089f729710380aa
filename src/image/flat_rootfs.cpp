#include "image/flat_rootfs.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <utility>
#include <vector>

#include "base/encoding.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/sparse_copy.h"
#include "image/disk_file.h"
#include "image/erofs_reader.h"
#include "image/ext4_grow.h"
#include "image/layer_merge.h"
#include "image/streams.h"

namespace msb::image {

namespace {

constexpr std::uint64_t kMib = 1 << 20;
constexpr std::uint64_t kBlock = 4096;
constexpr std::uint64_t kGroupBytes = 128 * kMib;
constexpr std::uint64_t kGroupDataBlocks =
    31996;  // what a group is counted to hold, as upstream does
constexpr std::uint64_t kGroupInodes = 8192;
constexpr std::uint64_t kSpareBlocks = 16384;  // at least; 5 % of the data if that is more
constexpr std::uint64_t kJournalBlocks = 16384;
constexpr std::uint64_t kMinGroups = 2;
constexpr std::size_t kMaxReferenceBytes = 64 * 1024;
constexpr std::size_t kCopyPiece = 1 << 20;  // between two looks at the stop token

std::uint64_t ceil_div(std::uint64_t a, std::uint64_t b) {
    return (a + b - 1) / b;
}

// Unique inodes and bytes of an image, and the size its flat file system gets.
struct FlatExtent {
    std::uint64_t inodes = 0;
    std::uint64_t bytes = 0;

    std::uint64_t size() const {
        std::uint64_t data = ceil_div(bytes, kBlock);
        std::uint64_t need =
            data + std::max(kSpareBlocks, ceil_div(data, 20)) + kJournalBlocks + 2 * inodes;
        std::uint64_t groups = std::max({kMinGroups, ceil_div(need, kGroupDataBlocks),
                                         ceil_div(11 * ceil_div(inodes + 9, 10), kGroupInodes)});
        return groups * kGroupBytes;
    }
};

FlatExtent measure(const FileTree& tree) {
    FlatExtent extent;
    walk_tree(
        tree,
        [&](InodeId id, InodeId) {
            ++extent.inodes;
            if (tree[id].is_regular()) extent.bytes += tree[id].size;
        },
        [](InodeId, InodeId) {});
    return extent;
}

void check_stop(const std::stop_token& stop) {
    if (stop.stop_requested()) throw Error(ErrorCode::kCancelled, "operation cancelled");
}

// The layers of an image, open, and what they amount to.
class MergedImage {
  public:
    MergedImage(const Cache& cache, std::span<const std::string> diff_ids,
                const std::stop_token& stop)
        : stop_(stop) {
        LayerMerger merger;
        for (const std::string& diff_id : diff_ids) {
            check_stop(stop_);
            layers_.push_back(
                std::make_unique<ErofsReader>(ErofsReader::open(cache.layer_image(diff_id))));
            merger.add(layers_.back()->load(static_cast<std::uint32_t>(layers_.size() - 1)));
        }
        tree_ = merger.take();
    }

    const FileTree& tree() const { return tree_; }

    void read(InodeId id, const Ext4PieceWriter& write) const {
        const Inode& inode = tree_[id];
        std::span<const std::byte> bytes =
            layers_[inode.layer]->data_at(inode.start_block, inode.size);
        for (std::size_t at = 0; at < bytes.size(); at += kCopyPiece) {
            check_stop(stop_);
            write(at, bytes.subspan(at, std::min(kCopyPiece, bytes.size() - at)));
        }
    }

  private:
    const std::stop_token& stop_;
    std::vector<std::unique_ptr<ErofsReader>> layers_;
    FileTree tree_;
};

// "sha256:<hex>" of the whole file.
std::string digest_of(int fd, const std::stop_token& stop) {
    Sha256 hash;
    std::vector<std::byte> buffer(kCopyPiece);
    for (off_t at = 0;;) {
        check_stop(stop);
        ssize_t n = ::pread(fd, buffer.data(), buffer.size(), at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) throw_os_error(errno, "read flat artifact");
        if (n == 0) return "sha256:" + hash.hex();
        hash.update(std::span(buffer).first(static_cast<std::size_t>(n)));
        at += n;
    }
}

// Whether the blob is there with the right content. A wrong size under the name of a hash is no accident of ours.
bool blob_is_good(const std::filesystem::path& path, const FlatReference& reference,
                  const std::stop_token& stop) {
    UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!fd && errno == ENOENT) return false;
    if (!fd) throw_os_error(errno, path.string());
    struct stat st{};
    if (::fstat(fd.get(), &st) != 0) throw_os_error(errno, path.string());
    if (!S_ISREG(st.st_mode) ||
        static_cast<std::uint64_t>(st.st_size) != reference.virtual_size_bytes)
        throw Error(ErrorCode::kImage, "flat artifact " + path.string() + " has " +
                                           std::to_string(st.st_size) + " bytes, expected " +
                                           std::to_string(reference.virtual_size_bytes));
    return digest_of(fd.get(), stop) == reference.artifact_digest;
}

void compose_flat(const Cache& cache, FlatReference reference,
                  std::span<const std::string> diff_ids, const std::stop_token& stop) {
    MergedImage image(cache, diff_ids, stop);
    FlatExtent extent = measure(image.tree());
    reference.virtual_size_bytes = extent.size();
    reference.inode_count = extent.inodes;
    reference.content_bytes = extent.bytes;
    Ext4Uuid uuid = flat_uuid(reference.derivation_digest);
    reference.uuid = hex(std::string_view(reinterpret_cast<const char*>(uuid.data()), uuid.size()));

    PendingFile part(cache.work(digest_file_name(reference.derivation_digest) + ".flat.part"));
    format_ext4(
        image.tree(), [&](InodeId id, const Ext4PieceWriter& write) { image.read(id, write); },
        {.size = reference.virtual_size_bytes, .uuid = uuid, .encoding = Ext4Encoding::kRootfs},
        part.fd());
    check_ext4(part.fd());
    check_stop(stop);
    reference.artifact_digest = digest_of(part.fd(), stop);
    std::filesystem::path blob = cache.flat_blob(reference.artifact_digest);
    if (!blob_is_good(blob, reference, stop)) part.publish(blob, true);
    check_stop(stop);

    PendingFile record(cache.work(digest_file_name(reference.derivation_digest) + ".ref.part"));
    if (int err = write_all(record.fd(), write_flat_reference(reference)))
        throw_os_error(err, record.path().string());
    record.publish(cache.flat_reference(reference.manifest_digest), true);
}

}  // namespace

std::string flat_derivation_digest(std::string_view manifest_digest,
                                   std::span<const std::string> diff_ids) {
    using namespace std::string_view_literals;
    Platform platform = host_platform();
    std::string text = std::string("microsandbox.flat-rootfs\0"sv);
    for (int shift = 0; shift < 32; shift += 8)
        text.push_back(static_cast<char>(kFlatMaterializerAbi >> shift & 0xFF));
    text += "\0"sv;
    text += platform.os + "/" + platform.architecture;
    text += "\0"sv;
    text += manifest_digest;
    for (const std::string& diff_id : diff_ids) {
        text += "\0"sv;
        text += diff_id;
    }
    return "sha256:" + sha256_hex(text);
}

Ext4Uuid flat_uuid(std::string_view derivation_digest) {
    std::string_view digits = derivation_digest.substr(derivation_digest.find(':') + 1);
    auto nibble = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
    Ext4Uuid uuid;
    for (std::size_t i = 0; i < uuid.size(); ++i)
        uuid[i] =
            static_cast<std::uint8_t>(nibble(digits.at(2 * i)) << 4 | nibble(digits.at(2 * i + 1)));
    uuid[6] = static_cast<std::uint8_t>((uuid[6] & 0x0F) | 0x40);
    uuid[8] = static_cast<std::uint8_t>((uuid[8] & 0x3F) | 0x80);
    return uuid;
}

std::string write_flat_reference(const FlatReference& reference) {
    json::Value value = json::Value::object();
    value["schema"] = kFlatSchema;
    value["manifest_digest"] = reference.manifest_digest;
    value["derivation_digest"] = reference.derivation_digest;
    value["artifact_digest"] = reference.artifact_digest;
    value["materializer_abi"] = reference.materializer_abi;
    value["uuid"] = reference.uuid;
    value["virtual_size_bytes"] = reference.virtual_size_bytes;
    value["inode_count"] = reference.inode_count;
    value["content_bytes"] = reference.content_bytes;
    return json::dump_pretty(value);
}

std::optional<FlatReference> read_flat_reference(std::string_view text) {
    try {
        json::Value value = json::parse(text);
        json::Reader reader(value, "FlatReference");
        if (reader.integer<std::uint32_t>("schema") != kFlatSchema) return std::nullopt;
        return FlatReference{
            .manifest_digest = reader.string("manifest_digest"),
            .derivation_digest = reader.string("derivation_digest"),
            .artifact_digest = reader.string("artifact_digest"),
            .materializer_abi = reader.integer<std::uint32_t>("materializer_abi"),
            .uuid = reader.string("uuid"),
            .virtual_size_bytes = reader.integer<std::uint64_t>("virtual_size_bytes"),
            .inode_count = reader.integer<std::uint64_t>("inode_count"),
            .content_bytes = reader.integer<std::uint64_t>("content_bytes")};
    } catch (const json::ParseError&) {
        return std::nullopt;
    }
}

std::optional<FlatReference> find_flat(const Cache& cache, const std::string& manifest_digest,
                                       std::span<const std::string> diff_ids) {
    std::optional<FlatReference> reference;
    try {
        reference = read_flat_reference(
            read_file(cache.flat_reference(manifest_digest), kMaxReferenceBytes));
    } catch (const Error&) {
        return std::nullopt;  // absent or unreadable: it is made anew
    }
    if (!reference || reference->materializer_abi != kFlatMaterializerAbi ||
        reference->manifest_digest != manifest_digest ||
        reference->derivation_digest != flat_derivation_digest(manifest_digest, diff_ids) ||
        !is_sha256(reference->artifact_digest))
        return std::nullopt;
    struct stat st{};
    if (::lstat(cache.flat_blob(reference->artifact_digest).c_str(), &st) != 0 ||
        !S_ISREG(st.st_mode) ||
        static_cast<std::uint64_t>(st.st_size) != reference->virtual_size_bytes)
        return std::nullopt;
    return reference;
}

bool FlatMaterializer::complete(const Cache& cache, const std::string& manifest_digest,
                                std::span<const std::string> diff_ids) const {
    return find_flat(cache, manifest_digest, diff_ids).has_value();
}

void FlatMaterializer::compose(const Cache& cache, const std::string& manifest_digest,
                               std::span<const std::string> diff_ids, bool force,
                               std::stop_token stop) const {
    FlatReference reference;
    reference.manifest_digest = manifest_digest;
    reference.derivation_digest = flat_derivation_digest(manifest_digest, diff_ids);
    FileLock lock = cache.lock(cache.flat_lock(reference.derivation_digest), stop);
    if (!force && complete(cache, manifest_digest, diff_ids)) return;
    try {
        compose_flat(cache, std::move(reference), diff_ids, stop);
    } catch (const Error& e) {
        if (e.code() == ErrorCode::kCancelled) throw;
        throw Error(ErrorCode::kCustom, "materialization failed for layer " + manifest_digest +
                                            ": flat ext4 materialization failed: " + e.detail());
    }
}

std::uint32_t flat_size_mib(const FlatReference& reference,
                            std::optional<std::uint32_t> requested) {
    auto minimum = static_cast<std::uint32_t>(ceil_div(reference.virtual_size_bytes, kMib));
    if (!requested) return std::max(kDefaultFlatRootDiskMib, minimum);
    if (*requested < minimum)
        throw Error(ErrorCode::kInvalidConfig,
                    "flat root disk must be at least " + std::to_string(minimum) +
                        " MiB for this image (requested " + std::to_string(*requested) + " MiB)");
    return *requested;
}

void create_flat_root(const Cache& cache, const FlatReference& reference,
                      const std::filesystem::path& path, std::uint32_t size_mib, CloneMode mode) {
    std::filesystem::path blob = cache.flat_blob(reference.artifact_digest);
    UniqueFd source(::open(blob.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
    if (!source) throw_cache_error(blob, errno);
    DiskDraft draft(path);
    int err = mode == CloneMode::kCopy ? EOPNOTSUPP : reflink_file(source.get(), draft.fd());
    if (err != 0 && mode == CloneMode::kReflink)
        throw Error(
            ErrorCode::kCustom,
            "flat rootfs requested clone=reflink, but the clone failed: " + os_error_text(err));
    if (err != 0) err = sparse_copy_file(source.get(), draft.fd());
    if (err != 0) throw_os_error(err, path.string());
    if (std::uint64_t size = size_mib * kMib; size > reference.virtual_size_bytes) {
        try {
            grow_ext4(draft.fd(), size);
        } catch (const Error& e) {
            throw Error(ErrorCode::kCustom, "failed to grow flat rootfs: " + e.detail());
        }
    }
    draft.publish(true);
}

bool grow_flat_root(const std::filesystem::path& path, std::uint32_t size_mib) {
    try {
        return grow_disk(path, size_mib * kMib);
    } catch (const Error& e) {
        throw Error(ErrorCode::kCustom, "failed to grow flat rootfs: " + e.detail());
    }
}

}  // namespace msb::image
