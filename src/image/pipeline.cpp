#include "image/pipeline.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <thread>

#include "base/error.h"
#include "base/fd.h"
#include "base/log.h"
#include "image/erofs_reader.h"
#include "image/http.h"
#include "image/materialize.h"

namespace msb::image {

namespace {

constexpr std::size_t kMaxRecordBytes = 64 << 20;  // two documents of at most 16 MiB each, escaped

PullEvent::Kind event_of(StitchStep step) {
    switch (step) {
        case StitchStep::kMergingTrees:
            return PullEvent::Kind::kStitchMergingTrees;
        case StitchStep::kWritingFsmeta:
            return PullEvent::Kind::kStitchWritingFsmeta;
        case StitchStep::kWritingVmdk:
            break;
    }
    return PullEvent::Kind::kStitchWritingVmdk;
}

bool only_descriptor_missing(const Cache& cache, const std::string& manifest_digest,
                             std::span<const std::string> diff_ids) {
    return is_valid_erofs(cache.fsmeta(manifest_digest)) &&
           std::ranges::all_of(diff_ids, [&](const std::string& id) {
               return is_valid_erofs(cache.layer_image(id));
           });
}

}  // namespace

void EventSender::send(const PullEvent& event) {
    if (!sink_) return;
    std::lock_guard guard(mutex_);
    try {
        sink_(event);
    } catch (const std::exception& e) {
        log(LogLevel::kWarn, "image::pull", "progress sink: {}", e.what());
    }
}

void for_each_layer(std::size_t count, const std::function<void(std::size_t)>& work) {
    std::size_t width = std::clamp<std::size_t>(2 * std::thread::hardware_concurrency(), 4, 16);
    std::vector<std::exception_ptr> failures(count);
    std::atomic<std::size_t> next = 0;
    auto run = [&] {
        for (std::size_t i = next++; i < count; i = next++) {
            try {
                work(i);
            } catch (...) {
                failures[i] = std::current_exception();
            }
        }
    };
    {
        std::vector<std::jthread> workers;
        for (std::size_t i = 1; i < std::min(width, count); ++i)
            workers.emplace_back(run);
        run();
    }
    for (const std::exception_ptr& failure : failures) {
        if (failure) std::rethrow_exception(failure);
    }
}

void stitch_layers(const Cache& cache, const std::string& manifest_digest,
                   std::span<const std::string> diff_ids, bool rebuild, EventSender& events,
                   const std::stop_token& stop) {
    FileLock lock = cache.lock_composition(manifest_digest, stop);
    if (!rebuild && layered_artifacts_complete(cache, manifest_digest, diff_ids)) return;
    if (stop.stop_requested()) throw_cancelled();
    PullEvent event;
    event.layer_count = diff_ids.size();
    auto send = [&](PullEvent::Kind kind) {
        event.kind = kind;
        events.send(event);
    };
    if (!rebuild && only_descriptor_missing(cache, manifest_digest, diff_ids)) {
        send(PullEvent::Kind::kStitchWritingVmdk);
        write_vmdk(cache, manifest_digest, diff_ids);
    } else {
        compose_layers(cache, manifest_digest, diff_ids,
                       [&](StitchStep step) { send(event_of(step)); });
    }
    send(PullEvent::Kind::kStitchComplete);
}

std::optional<CachedImage> read_image_record(const Cache& cache, const Reference& reference) {
    try {
        return read_cached_image(read_file(cache.metadata(reference), kMaxRecordBytes));
    } catch (const Error&) {
        return std::nullopt;
    }
}

void write_image_record(const Cache& cache, const Reference& reference, const CachedImage& image) {
    std::filesystem::path target = cache.metadata(reference);
    PendingFile file(target.native() + ".part");
    if (int err = write_all(file.fd(), write_cached_image(image)))
        throw_cache_error(file.path(), err);
    file.publish(target);
}

std::vector<std::string> diff_ids_of(const CachedImage& image) {
    std::vector<std::string> ids;
    ids.reserve(image.layers.size());
    for (const CachedLayer& layer : image.layers)
        ids.push_back(layer.diff_id);
    return ids;
}

}  // namespace msb::image
