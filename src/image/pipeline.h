// The steps that pulls and loads have in common: events, layers in parallel, composition, the record of an image.
#pragma once

#include <functional>
#include <mutex>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <vector>

#include "image/cache.h"
#include "image/manifest.h"
#include "image/pull.h"
#include "image/reference.h"

namespace msb::image {

// Sends one event at a time and keeps a sink's failures from the work. Thread-safe; the sink must outlive it.
class EventSender {
  public:
    explicit EventSender(const PullEventSink& sink) : sink_(sink) {}
    void send(const PullEvent& event);

  private:
    const PullEventSink& sink_;
    std::mutex mutex_;
};

// Calls work(0) ... work(count - 1) from several threads, the caller's among them: clamp(2 x CPUs, 4, 16) of them, as
// spec/images.md section 3.4 has it for pulls. All are called even if some fail; then the failure of the lowest index is
// thrown.
void for_each_layer(std::size_t count, const std::function<void(std::size_t)>& work);

// Makes fsmeta and VMDK of an image whose layers are all cached, unless they are there; only the descriptor when nothing
// else is missing. `rebuild`: a layer has just been made, so that an older fsmeta may describe another image of it.
// Takes the composition's lock.
void stitch_layers(const Cache& cache, const std::string& manifest_digest,
                   std::span<const std::string> diff_ids, bool rebuild, EventSender& events,
                   const std::stop_token& stop);

// manifests/<key>.json. nullopt when it is absent, cannot be read or is no complete record: the three are the same to a
// reader, who makes the image anew.
std::optional<CachedImage> read_image_record(const Cache& cache, const Reference& reference);
// Makes the image visible under this name. The caller holds the reference's lock.
void write_image_record(const Cache& cache, const Reference& reference, const CachedImage& image);

std::vector<std::string> diff_ids_of(const CachedImage& image);

}  // namespace msb::image
