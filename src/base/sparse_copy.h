// Copies of whole files that keep what is sparse sparse: disks and their snapshots.
#pragma once

namespace msb {

// Makes `to`, an empty file, share the blocks of `from` (FICLONE). Returns 0 or the errno: EOPNOTSUPP, EXDEV, EINVAL, ENOTTY
// where the file system cannot.
int reflink_file(int from, int to) noexcept;

// Copies the data of `from` into `to`, an empty file, and gives it the same size; holes stay holes (SEEK_DATA). Returns 0 or
// the errno that stopped it. `from` must not shrink meanwhile (EIO).
int sparse_copy_file(int from, int to) noexcept;

}  // namespace msb
