// Layer tars: whatever is ingested must survive the trip through its layer image and through a saved tar.
#include <sys/mman.h>

#include <cstdlib>

#include "base/error.h"
#include "base/fd.h"
#include "image/erofs_reader.h"
#include "image/erofs_writer.h"
#include "image/layer_export.h"
#include "image/layer_ingest.h"
#include "image/layer_merge.h"
#include "seal_headers.h"

namespace {

using namespace msb::image;

class MemorySource : public ByteSource {
  public:
    explicit MemorySource(std::span<const std::byte> bytes) : bytes_(bytes) {}
    std::size_t read(std::span<std::byte> out) override {
        std::size_t n = std::min(out.size(), bytes_.size());
        std::copy_n(bytes_.begin(), n, out.begin());
        bytes_ = bytes_.subspan(n);
        return n;
    }

  private:
    std::span<const std::byte> bytes_;
};

class MemorySink : public ByteSink {
  public:
    void write(std::span<const std::byte> bytes) override {
        bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
    }
    std::span<const std::byte> bytes() const { return bytes_; }

  private:
    std::vector<std::byte> bytes_;
};

msb::UniqueFd memory_file() {
    return msb::UniqueFd(::memfd_create("fuzz", MFD_CLOEXEC));
}

// Sparse files may be large where nothing is stored: those are not written out.
bool is_small(const FileTree& tree) {
    std::uint64_t total = 0;
    for (InodeId id = 0; id < tree.inode_count(); ++id)
        total += tree[id].size;
    return total < 1 << 20;
}

// A file or directory that is named like a whiteout cannot be told from one in a tar.
bool has_marker_names(const FileTree& tree) {
    for (InodeId id = 0; id < tree.inode_count(); ++id) {
        for (const auto& [name, child] : tree[id].children) {
            if (name.starts_with(".wh.")) return true;
        }
    }
    return false;
}

// The layer image of a tar; no descriptor when the tar is refused.
msb::UniqueFd make_image(std::span<const std::byte> tar) {
    MemorySource source(tar);
    msb::UniqueFd spool = memory_file();
    msb::UniqueFd image = memory_file();
    FileTree tree;
    try {
        tree = ingest_layer(source, spool.get());
    } catch (const msb::Error&) {
        return {};
    }
    if (!is_small(tree)) return {};
    write_layer_image(tree, spool.get(), image.get());
    return image;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    std::vector<std::byte> tar(size);
    std::copy_n(reinterpret_cast<const std::byte*>(data), size, tar.begin());
    seal_headers(tar);
    msb::UniqueFd image = make_image(tar);
    if (!image) return 0;
    // Our own images are always readable, and can be merged and saved.
    ErofsReader reader = ErofsReader::from_fd(image.get());
    LayerMerger merger;
    FileTree tree = reader.load(0);
    merger.add(tree);
    merger.take();
    MemorySink saved;
    export_layer(reader, image.get(), saved, {});
    if (has_marker_names(tree)) return 0;
    // A saved layer is read back, and saving it again changes nothing.
    msb::UniqueFd second = make_image(saved.bytes());
    if (!second) std::abort();
    MemorySink again;
    export_layer(ErofsReader::from_fd(second.get()), second.get(), again, {});
    if (!std::ranges::equal(saved.bytes(), again.bytes())) std::abort();
    return 0;
}
