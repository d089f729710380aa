#include "image/ext4_journal.h"

#include <algorithm>
#include <optional>
#include <utility>

namespace msb::image::ext4 {

namespace {

constexpr std::uint32_t kMagic = 0xC03B3998;
constexpr std::uint32_t kDescriptorBlock = 1;
constexpr std::uint32_t kCommitBlock = 2;
constexpr std::uint32_t kSuperV2 = 4;
constexpr std::uint32_t kRevokeBlock = 5;
constexpr std::uint32_t kFeatures = 0x13;  // revoke, 64bit, csum v3
constexpr std::byte kCrc32c{4};
constexpr std::uint32_t kFirstLogBlock = 1;

constexpr std::size_t kHeaderSize = 12;  // magic, type, sequence
constexpr std::size_t kTailSize = 4;     // checksum at the end of descriptor and revoke blocks
constexpr std::size_t kTagSize = 16;     // journal_block_tag3_t
constexpr std::size_t kTagUuid = 16;     // follows the first tag of a descriptor
constexpr std::uint32_t kEscaped = 1;
constexpr std::uint32_t kSameUuid = 2;
constexpr std::uint32_t kDeleted = 4;
constexpr std::uint32_t kLastTag = 8;
constexpr std::size_t kRevokeHeader = 16;
constexpr std::size_t kRevokeRecord = 8;
constexpr std::size_t kCommitChecksum = 16;
constexpr std::size_t kSuperStart = 0x1C;
constexpr std::size_t kSuperSequence = 0x18;
constexpr std::size_t kSuperChecksum = 0xFC;

// Tags in one descriptor block: the first is followed by a UUID.
constexpr std::size_t kTagsPerDescriptor =
    (kBlockSize - kHeaderSize - kTailSize - kTagUuid) / kTagSize;

std::uint32_t get_big_endian(std::span<const std::byte> record, std::size_t offset) {
    return __builtin_bswap32(get<std::uint32_t>(record, offset));
}

std::uint32_t super_crc(Block super) {
    put<std::uint32_t>(super, kSuperChecksum, 0);
    return crc32c(0xFFFFFFFF, super);
}

void put_header(Block& block, std::uint32_t type, std::uint32_t sequence) {
    put_big_endian(block, 0, kMagic);
    put_big_endian(block, 4, type);
    put_big_endian(block, 8, sequence);
}

// Whether `a` was before `b`; sequence numbers wrap.
bool before(std::uint32_t a, std::uint32_t b) {
    return static_cast<std::int32_t>(a - b) < 0;
}

}  // namespace

Journal::Journal(const ImageFile& file, const Extent& location, const Ext4Uuid& uuid)
    : file_(file),
      first_block_(location.physical),
      seed_(crc32c(0xFFFFFFFF, std::as_bytes(std::span(uuid)))),
      super_(kSuperSize) {
    file_.read(first_block_ * kBlockSize, super_);
    auto word = [&](std::size_t offset) { return get_big_endian(super_, offset); };
    if (word(0) != kMagic || word(4) != kSuperV2)
        unsupported("journal superblock is not version 2");
    if (word(kSuperChecksum) != super_crc(super_))
        unsupported("journal superblock checksum mismatch");
    if (word(0x0C) != kBlockSize || word(0x10) != kJournalBlocks || word(0x14) != kFirstLogBlock)
        unsupported("journal has an unexpected geometry");
    if (word(0x24) != 0 || word(0x28) != kFeatures || word(0x2C) != 0 || super_[0x50] != kCrc32c)
        unsupported("journal has unexpected features");
    if (!std::ranges::equal(std::span(super_).subspan(0x30, uuid.size()),
                            std::as_bytes(std::span(uuid))))
        unsupported("journal belongs to another file system");
    if (word(0x20) != 0) unsupported("journal has a recorded error");
    start_ = word(kSuperStart);
    sequence_ = word(kSuperSequence);
    if (start_ >= kJournalBlocks) unsupported("journal starts outside itself");
}

std::uint32_t Journal::next(std::uint32_t log_block) const {
    return log_block + 1 == kJournalBlocks ? kFirstLogBlock : log_block + 1;
}

Block Journal::read_log(std::uint32_t log_block) const {
    return file_.read_block(first_block_ + log_block);
}

void Journal::write_log(std::uint32_t log_block, std::span<const std::byte> bytes) const {
    file_.write_block(first_block_ + log_block, bytes);
}

bool Journal::tail_checksum_ok(const Block& block) const {
    Block copy = block;
    put<std::uint32_t>(copy, kBlockSize - kTailSize, 0);
    return get_big_endian(block, kBlockSize - kTailSize) == crc32c(seed_, copy);
}

bool Journal::commit_checksum_ok(const Block& block) const {
    Block copy = block;
    put<std::uint32_t>(copy, kCommitChecksum, 0);
    return get_big_endian(block, kCommitChecksum) == crc32c(seed_, copy);
}

std::uint32_t Journal::data_checksum(std::uint32_t sequence,
                                     std::span<const std::byte> data) const {
    std::uint32_t big_endian = __builtin_bswap32(sequence);
    return crc32c(crc32c(seed_, std::as_bytes(std::span(&big_endian, 1))), data);
}

bool Journal::read_tags(const Block& descriptor, std::uint32_t sequence, std::vector<Tag>& tags,
                        std::vector<std::uint32_t>& checksums) {
    for (std::size_t at = kHeaderSize; at + kTagSize <= kBlockSize - kTailSize;) {
        std::uint32_t flags = get_big_endian(descriptor, at + 4);
        if ((flags & ~(kEscaped | kSameUuid | kDeleted | kLastTag)) != 0) return false;
        tags.push_back({.target = get_big_endian(descriptor, at) |
                                  std::uint64_t{get_big_endian(descriptor, at + 8)} << 32,
                        .log_block = 0,
                        .sequence = sequence,
                        .escaped = (flags & kEscaped) != 0});
        checksums.push_back(get_big_endian(descriptor, at + 12));
        if ((flags & kLastTag) != 0) return true;
        at += kTagSize + ((flags & kSameUuid) != 0 ? 0 : kTagUuid);
    }
    return !tags.empty();
}

bool Journal::read_revokes(const Block& block, std::vector<std::uint64_t>& targets) {
    std::size_t end = get_big_endian(block, kHeaderSize);
    if (end < kRevokeHeader || end > kBlockSize - kTailSize) return false;
    for (std::size_t at = kRevokeHeader; at + kRevokeRecord <= end; at += kRevokeRecord)
        targets.push_back(std::uint64_t{get_big_endian(block, at)} << 32 |
                          get_big_endian(block, at + 4));
    return true;
}

// Walks the log from its start as long as blocks have the magic, the expected sequence number and good checksums. Only
// what a commit block seals counts.
Journal::Scan Journal::scan() const {
    Scan found;
    found.end = sequence_;
    std::vector<Tag> tags;  // of the transaction being read
    std::vector<std::uint64_t> revokes;
    std::uint32_t at = start_;
    for (std::uint32_t walked = 0; walked < kJournalBlocks; ++walked) {
        Block block = read_log(at);
        if (get_big_endian(block, 0) != kMagic || get_big_endian(block, 8) != found.end) break;
        std::uint32_t type = get_big_endian(block, 4);
        at = next(at);
        if (type == kDescriptorBlock) {
            std::vector<Tag> listed;
            std::vector<std::uint32_t> checksums;
            if (!tail_checksum_ok(block) || !read_tags(block, found.end, listed, checksums)) break;
            bool good = true;
            for (std::size_t i = 0; i < listed.size() && good; ++i, ++walked, at = next(at)) {
                listed[i].log_block = at;
                good = walked < kJournalBlocks &&
                       data_checksum(found.end, read_log(at)) == checksums[i];
            }
            if (!good) break;
            tags.insert(tags.end(), listed.begin(), listed.end());
        } else if (type == kRevokeBlock) {
            if (!tail_checksum_ok(block) || !read_revokes(block, revokes)) break;
        } else if (type == kCommitBlock) {
            if (!commit_checksum_ok(block)) break;
            found.tags.insert(found.tags.end(), tags.begin(), tags.end());
            for (std::uint64_t target : revokes)
                found.revoked[target] = found.end;
            tags.clear();
            revokes.clear();
            ++found.end;
        } else {
            break;
        }
    }
    return found;
}

void Journal::replay(std::uint64_t blocks) {
    if (empty()) {
        // What an uncommitted transaction left in the log must not be taken for part of the next one.
        write_super(0, sequence_ + 1);
        file_.sync();
        return;
    }
    Scan found = scan();
    std::erase_if(found.tags, [&](const Tag& tag) {
        auto revoke = found.revoked.find(tag.target);
        return revoke != found.revoked.end() && !before(revoke->second, tag.sequence);
    });
    for (const Tag& tag : found.tags) {
        if (tag.target >= blocks)
            unsupported("journal writes to block " + std::to_string(tag.target) +
                        ", which is outside the file system");
        if (tag.target >= first_block_ && tag.target < first_block_ + kJournalBlocks)
            unsupported("journal writes to itself");
    }
    for (const Tag& tag : found.tags) {
        Block data = read_log(tag.log_block);
        // A block that begins like a journal block is stored without its first word.
        if (tag.escaped) put_big_endian(data, 0, kMagic);
        file_.write_block(tag.target, data);
    }
    file_.sync();
    write_super(0, found.end + 1);
    file_.sync();
}

void Journal::log(const BlockMap& blocks) {
    std::size_t descriptors = (blocks.size() + kTagsPerDescriptor - 1) / kTagsPerDescriptor;
    // The commit block, and a zero block behind it that ends the log whatever was there before.
    std::size_t needed = blocks.size() + descriptors + 2;
    if (needed > kJournalBlocks - kFirstLogBlock)
        fail("ext4 layout error: the growth does not fit the journal");
    logged_ = static_cast<std::uint32_t>(needed);

    std::uint32_t at = kFirstLogBlock;
    auto block = blocks.begin();
    while (block != blocks.end()) {
        std::uint32_t descriptor_at = at++;
        Block descriptor(kBlockSize);
        put_header(descriptor, kDescriptorBlock, sequence_);
        std::size_t offset = kHeaderSize;
        for (std::size_t i = 0; i < kTagsPerDescriptor && block != blocks.end(); ++i, ++block) {
            Block data = block->second;
            std::uint32_t flags = i > 0 ? kSameUuid : 0;
            if (get_big_endian(data, 0) == kMagic) {
                flags |= kEscaped;
                put<std::uint32_t>(data, 0, 0);
            }
            bool last = i + 1 == kTagsPerDescriptor || std::next(block) == blocks.end();
            if (last) flags |= kLastTag;
            put_big_endian(descriptor, offset, static_cast<std::uint32_t>(block->first));
            put_big_endian(descriptor, offset + 4, flags);
            put_big_endian(descriptor, offset + 8, static_cast<std::uint32_t>(block->first >> 32));
            put_big_endian(descriptor, offset + 12, data_checksum(sequence_, data));
            offset += kTagSize;
            if (i == 0) {
                std::copy_n(&super_[0x30], kTagUuid, &descriptor[offset]);
                offset += kTagUuid;
            }
            write_log(at++, data);
        }
        put_big_endian(descriptor, kBlockSize - kTailSize, crc32c(seed_, descriptor));
        write_log(descriptor_at, descriptor);
    }
    Block commit(kBlockSize);
    put_header(commit, kCommitBlock, sequence_);
    put_big_endian(commit, kCommitChecksum, crc32c(seed_, commit));
    write_log(at++, commit);
    write_log(at, Block(kBlockSize));
}

void Journal::commit() {
    write_super(kFirstLogBlock, sequence_);
    file_.sync();
}

void Journal::retire() {
    std::uint32_t sequence = sequence_;
    // While the old log is still there its sequence number must not come again.
    write_super(0, sequence + 1);
    file_.sync();
    file_.erase(first_block_ + kFirstLogBlock, logged_);
    file_.sync();
    write_super(0, sequence);
    logged_ = 0;
}

void Journal::write_super(std::uint32_t start, std::uint32_t sequence) {
    put_big_endian(super_, kSuperStart, start);
    put_big_endian(super_, kSuperSequence, sequence);
    put_big_endian(super_, kSuperChecksum, super_crc(super_));
    file_.write(first_block_ * kBlockSize, super_);
    start_ = start;
    sequence_ = sequence;
}

}  // namespace msb::image::ext4
