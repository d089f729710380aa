#include "image/materialize.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "base/error.h"
#include "image/erofs_reader.h"
#include "image/erofs_writer.h"
#include "image/layer_ingest.h"
#include "image/layer_merge.h"
#include "image/vmdk.h"

namespace msb::image {

namespace {

// Runs one step and gives its failure the words every client knows.
template <class Step>
auto step(std::string_view subject, const char* name, Step run) {
    try {
        return run();
    } catch (const Error& e) {
        throw Error(ErrorCode::kCustom, "materialization failed for layer " + std::string(subject) +
                                            ": " + name + " failed: " + e.detail());
    }
}

std::uint64_t artifact_size(const std::filesystem::path& path) {
    struct stat st{};
    if (::stat(path.c_str(), &st) != 0) throw_cache_error(path, errno);
    return static_cast<std::uint64_t>(st.st_size);
}

bool is_regular(const std::filesystem::path& path) {
    std::error_code ec;
    return std::filesystem::is_regular_file(path, ec);
}

}  // namespace

void materialize_layer(const Cache& cache, std::string_view diff_id, ByteSource& blob,
                       Compression compression, const std::function<void()>& writing) {
    std::string name = digest_file_name(diff_id);
    PendingFile spool(cache.work(name + ".spool"));
    FileTree tree;
    std::string actual = step(diff_id, "tar ingestion", [&] {
        std::unique_ptr<ByteSource> plain = decompress(blob, compression);
        AheadSource ahead(*plain);  // inflating here, digesting and reading the archive there
        BoundedSource bounded(ahead, kMaxLayerStream);
        HashingSource hashing(bounded);
        tree = ingest_layer(hashing, spool.fd());
        return hashing.finish();
    });
    if (actual != diff_id)
        throw Error(ErrorCode::kCustom, "digest mismatch for layer " + std::string(diff_id) +
                                            ": expected " + std::string(diff_id) + ", got " +
                                            actual);
    if (writing) writing();
    PendingFile image(cache.work(name + ".erofs.part"));
    step(diff_id, "EROFS write", [&] { write_layer_image(tree, spool.fd(), image.fd()); });
    image.publish(cache.layer_image(diff_id));
}

void write_vmdk(const Cache& cache, std::string_view manifest_digest,
                std::span<const std::string> diff_ids) {
    step(manifest_digest, "VMDK write", [&] {
        std::vector<VmdkExtent> extents{
            {cache.fsmeta(manifest_digest), artifact_size(cache.fsmeta(manifest_digest))}};
        for (const std::string& diff_id : diff_ids) {
            std::filesystem::path path = cache.layer_image(diff_id);
            extents.push_back({path, artifact_size(path)});
        }
        PendingFile descriptor(cache.work(digest_file_name(manifest_digest) + ".vmdk.part"));
        if (int err = write_all(descriptor.fd(), vmdk_descriptor(extents)))
            throw_os_error(err, "write");
        descriptor.publish(cache.vmdk(manifest_digest));
    });
}

void compose_layers(const Cache& cache, std::string_view manifest_digest,
                    std::span<const std::string> diff_ids,
                    const std::function<void(StitchStep)>& progress) {
    auto report = [&](StitchStep at) {
        if (progress) progress(at);
    };
    step(manifest_digest, "fsmeta write", [&] {
        report(StitchStep::kMergingTrees);
        LayerMerger merger;
        std::vector<std::uint32_t> blocks;
        for (std::size_t i = 0; i < diff_ids.size(); ++i) {
            ErofsReader layer = ErofsReader::open(cache.layer_image(diff_ids[i]));
            blocks.push_back(layer.blocks());
            merger.add(layer.load(static_cast<std::uint32_t>(i)));
        }
        FileTree merged = merger.take();
        report(StitchStep::kWritingFsmeta);
        PendingFile fsmeta(cache.work(digest_file_name(manifest_digest) + ".fsmeta.part"));
        write_fsmeta(merged, blocks, fsmeta.fd());
        fsmeta.publish(cache.fsmeta(manifest_digest));
    });
    report(StitchStep::kWritingVmdk);
    write_vmdk(cache, manifest_digest, diff_ids);
}

bool layered_artifacts_complete(const Cache& cache, std::string_view manifest_digest,
                                std::span<const std::string> diff_ids) {
    if (!is_regular(cache.vmdk(manifest_digest)) || !is_valid_erofs(cache.fsmeta(manifest_digest)))
        return false;
    for (const std::string& diff_id : diff_ids) {
        if (!is_valid_erofs(cache.layer_image(diff_id))) return false;
    }
    return true;
}

}  // namespace msb::image
