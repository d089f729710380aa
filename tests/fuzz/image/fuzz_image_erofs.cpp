// EROFS images of a cache that somebody else wrote.
#include <sys/mman.h>

#include <cstdlib>

#include "base/error.h"
#include "base/fd.h"
#include "image/erofs_reader.h"
#include "image/layer_export.h"
#include "image/layer_merge.h"

namespace {

using namespace msb::image;

// Reads everything it is given; a small image can name its blocks in many files.
class LimitedSink : public ByteSink {
  public:
    void write(std::span<const std::byte> bytes) override {
        if (bytes.size() > left_) throw msb::Error(msb::ErrorCode::kImage, "enough");
        left_ -= bytes.size();
        for (std::byte byte : bytes)
            sum_ = sum_ * 31 + static_cast<unsigned>(byte);
    }

  private:
    std::size_t left_ = 4 << 20;
    unsigned sum_ = 0;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    // Whole blocks, as every image has them: the fuzzer need not find that out.
    std::vector<std::byte> image((size + 4095) / 4096 * 4096);
    std::copy_n(reinterpret_cast<const std::byte*>(data), size, image.begin());
    msb::UniqueFd file(::memfd_create("fuzz", MFD_CLOEXEC));
    if (msb::pwrite_all(file.get(), image, 0) != 0) std::abort();
    try {
        ErofsReader reader(image);
        FileTree tree = reader.load(3);
        LayerMerger merger;
        merger.add(tree);
        FileTree merged = merger.take();
        if (!merged[FileTree::kRoot].is_directory()) std::abort();
        LimitedSink sink;
        export_layer(reader, file.get(), sink, {});
    } catch (const msb::Error&) {
    }
    return 0;
}
