// A cache with layers made from archives in memory.
#pragma once

#include <filesystem>
#include <string>

#include "base/hash.h"
#include "image/cache.h"
#include "image/erofs_writer.h"
#include "image/layer_ingest.h"
#include "tar_builder.h"

namespace msb::image {

// Puts a layer into the cache and gives its diff_id.
inline std::string add_layer(const Cache& cache, const std::string& tar) {
    std::string diff_id = "sha256:" + sha256_hex(tar);
    PendingFile spool(cache.work("test.spool"));
    StringSource source(tar);
    FileTree tree = ingest_layer(source, spool.fd());
    PendingFile image(cache.work("test.image"));
    write_layer_image(tree, spool.fd(), image.fd());
    image.publish(cache.layer_image(diff_id));
    return diff_id;
}

}  // namespace msb::image
