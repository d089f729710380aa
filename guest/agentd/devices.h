// Finding block devices and telling their file system apart.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/messages.h"

namespace msb::agentd {

// Waits until the node exists: devices that are bound late (a restored VM) appear a moment after the
// bootstrap. Returns false when it did not come in time; the mount that follows names the problem.
bool wait_for_node(const std::string& path);

// The device whose virtio-blk serial is `id`. Throws Failure "init error: disk mount: no block device
// found for id ...".
std::string find_disk(const std::string& id);

// The file system type the first bytes of a device announce; "" when none is recognised.
// `head` should hold kSuperblockProbe bytes.
inline constexpr std::size_t kSuperblockProbe = 0x10048 + 8;
std::string_view detect_filesystem(std::span<const std::byte> head);

// Lines of /proc/filesystems that name a type for block devices, in file order.
std::vector<std::string> block_filesystems(std::string_view proc_filesystems);

// Mounts `device` as whatever it is: the type its superblock announces first, then every type the
// kernel knows. `readonly` ext4 is mounted with noload. Returns 0, or ENODEV when nothing fits.
int mount_probed(const std::string& device, const std::string& target, unsigned long flags);

// mount(2) of a known type, with the data a read-only ext4 needs. Returns 0 or the errno.
int mount_disk(const std::string& device, const std::string& target, const std::string& type,
               unsigned long flags);

}  // namespace msb::agentd
