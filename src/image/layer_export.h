// From a layer image back to a tar of the layer (spec/images.md section 16.2).
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>

#include "base/fd.h"
#include "image/cache.h"
#include "image/erofs_reader.h"
#include "image/tar_writer.h"

namespace msb::image {

// Writes the tar of a layer image, always the same bytes: members in byte order of their names, whiteouts and opaque
// directories as markers. `image` is the file that `reader` reads. Throws what `sink` throws, Error{kImage},
// Error{kCancelled}.
void export_layer(const ErofsReader& reader, int image, ByteSink& sink,
                  const std::stop_token& stop);

// A layer image that stays readable even if it is removed from the cache meanwhile.
class LayerExport {
  public:
    // Throws Error{kImage} "cache error at PATH: ...", "not a usable EROFS image: ...".
    LayerExport(const Cache& cache, std::string_view diff_id);

    void write(ByteSink& sink, const std::stop_token& stop) const {
        export_layer(reader_, fd_.get(), sink, stop);
    }

  private:
    UniqueFd fd_;
    ErofsReader reader_;
};

}  // namespace msb::image
