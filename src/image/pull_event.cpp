#include <microsandbox/image.h>

namespace microsandbox {

std::string_view to_string(PullEvent::Kind kind) noexcept {
    switch (kind) {
        case PullEvent::Kind::kResolving:
            return "resolving";
        case PullEvent::Kind::kResolved:
            return "resolved";
        case PullEvent::Kind::kLayerDownloadProgress:
            return "layerDownloadProgress";
        case PullEvent::Kind::kLayerDownloadComplete:
            return "layerDownloadComplete";
        case PullEvent::Kind::kLayerMaterializeStarted:
            return "layerMaterializeStarted";
        case PullEvent::Kind::kLayerMaterializeProgress:
            return "layerMaterializeProgress";
        case PullEvent::Kind::kLayerMaterializeWriting:
            return "layerMaterializeWriting";
        case PullEvent::Kind::kLayerMaterializeComplete:
            return "layerMaterializeComplete";
        case PullEvent::Kind::kStitchMergingTrees:
            return "stitchMergingTrees";
        case PullEvent::Kind::kStitchWritingFsmeta:
            return "stitchWritingFsmeta";
        case PullEvent::Kind::kStitchWritingVmdk:
            return "stitchWritingVmdk";
        case PullEvent::Kind::kStitchComplete:
            return "stitchComplete";
        case PullEvent::Kind::kComplete:
            return "complete";
    }
    return "";
}

}  // namespace microsandbox
