// Rows of `volume` (spec/state.md sections 5.1 and 6).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "state/database.h"

namespace msb::state {

enum class VolumeKind : std::uint8_t { kDirectory, kDisk };
std::string_view to_string(VolumeKind kind);  // "dir", "disk"

struct VolumeRow {
    std::int64_t id = 0;
    std::string name;
    VolumeKind kind = VolumeKind::kDirectory;  // an unknown kind reads as a directory
    std::optional<std::uint32_t> quota_mib;
    std::optional<std::uint64_t> capacity_bytes;  // disk: MiB x 2^20
    std::string disk_format;                      // disk: "raw" (NULL reads as raw)
    std::optional<std::string> disk_fstype;       // disk: "ext4"
    std::vector<std::pair<std::string, std::string>> labels;
    std::optional<std::int64_t> created_at;  // Unix nanoseconds
    std::optional<std::int64_t> updated_at;
};

// Inserts with created_at = updated_at = now; id and times of `row` are ignored. Returns the id.
// Throws Error{kVolumeAlreadyExists} when the name is taken.
std::int64_t insert_volume(Database& database, const VolumeRow& row);
std::optional<VolumeRow> find_volume(Database& database, std::string_view name);
// Throws Error{kVolumeNotFound}.
VolumeRow get_volume(Database& database, std::string_view name);
std::vector<VolumeRow> list_volumes(Database& database);  // newest first
// Row only, before the directory. Throws Error{kInvalidConfig} `volume "N" is attached to active sandbox "S"`,
// Error{kVolumeNotFound}.
void delete_volume(Database& database, std::string_view name);

}  // namespace msb::state
