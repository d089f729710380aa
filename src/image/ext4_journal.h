// The journal of an ext4 image: replaying one that was not emptied, and writing one transaction (Linux, fs/jbd2/recovery.c
// and include/linux/jbd2.h; spec/images.md section 12).
//
// The log was written by a guest and is not trusted: all of it is walked and every target checked before the first block
// is written.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "image/ext4_format.h"
#include "image/ext4_io.h"

namespace msb::image::ext4 {

// New contents of blocks, by block number.
using BlockMap = std::map<std::uint64_t, Block>;

class Journal {
  public:
    // `location` is the journal's one extent. Reads and checks the journal's superblock: v2, 4 KiB blocks, features
    // exactly ours, crc32c, the file system's UUID, no recorded error. Throws unsupported().
    Journal(const ImageFile& file, const Extent& location, const Ext4Uuid& uuid);

    bool empty() const { return start_ == 0; }

    // Writes what committed transactions say to its place, synced, and marks the log empty. A block with a bad checksum or
    // another sequence number ends the log. Throws unsupported() when a target is not below `blocks`; nothing has been
    // written then.
    void replay(std::uint64_t blocks);

    // One transaction in an empty log. Until commit() it does not exist; from then on replay() or any other
    // implementation carries it out. `blocks` must fit the log.
    void log(const BlockMap& blocks);
    void commit();
    // The transaction is in its place, or is not wanted: empties the log and wipes it, so that the journal is as before.
    void retire();

  private:
    struct Tag {
        std::uint64_t target = 0;
        std::uint32_t log_block = 0;
        std::uint32_t sequence = 0;
        bool escaped = false;
    };
    struct Scan {
        std::vector<Tag> tags;                           // of committed transactions, in order
        std::map<std::uint64_t, std::uint32_t> revoked;  // block -> last sequence that revoked it
        std::uint32_t end = 0;  // the sequence after the last committed one
    };

    Scan scan() const;
    // The tags of a descriptor block, without log_block; false when it is malformed.
    static bool read_tags(const Block& descriptor, std::uint32_t sequence, std::vector<Tag>& tags,
                          std::vector<std::uint32_t>& checksums);
    static bool read_revokes(const Block& block, std::vector<std::uint64_t>& targets);
    bool tail_checksum_ok(const Block& block) const;
    bool commit_checksum_ok(const Block& block) const;
    std::uint32_t data_checksum(std::uint32_t sequence, std::span<const std::byte> data) const;
    std::uint32_t next(std::uint32_t log_block) const;

    Block read_log(std::uint32_t log_block) const;
    void write_log(std::uint32_t log_block, std::span<const std::byte> bytes) const;
    void write_super(std::uint32_t start, std::uint32_t sequence);

    const ImageFile& file_;
    std::uint64_t first_block_;
    std::uint32_t seed_;
    Block super_;
    std::uint32_t start_ = 0;
    std::uint32_t sequence_ = 0;
    std::uint32_t logged_ = 0;  // log blocks taken by log()
};

}  // namespace msb::image::ext4
