// Private to state: the parts of SandboxConfig that live in files of their own.
#pragma once

#include "base/json.h"
#include "state/sandbox_config.h"

namespace msb::state {

DiskFormat disk_format_from_json(const json::Value& value);

Image image_from_json(const json::Value& value);
json::Value to_json(const Image& image);

Patch patch_from_json(const json::Value& value);
json::Value to_json(const Patch& patch);

}  // namespace msb::state
