// spec/metrics.md sections 3 to 5.
#include "contract/metrics_slot.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstring>

#include "base/error.h"
#include "base/fd.h"

namespace msb::contract {
namespace {

std::string unhex(std::string_view text) {
    std::string out;
    std::string digits;
    for (char c : text)
        if (c != ' ') digits += c;
    for (std::size_t i = 0; i + 1 < digits.size(); i += 2)
        out += static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16));
    return out;
}

// A registry of two slots; slot 1 is reserved by a launcher for sandbox 5, named "web", 512 MiB, generation 7.
class Registry : public ::testing::Test {
  protected:
    static constexpr std::size_t kBytes = 256 + 2 * 512;
    void SetUp() override {
        name_ = "/msb-test-" + std::to_string(::getpid());
        fd_ = UniqueFd(::shm_open(name_.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600));
        ASSERT_TRUE(fd_);
        ASSERT_EQ(::ftruncate(fd_.get(), kBytes), 0);
        bytes_ = static_cast<char*>(
            ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0));
        put(0, "4d53424d45543031 03000000 00010000 00020000 02000000 02000000 00000000");
        put(0x28, "0700000000000000");
        put(slot(0), "01000000 00000000 0700000000000000 0200000000000000 05000000");
        put(slot(0x40), "0000002000000000");
        put(slot(0xa8), "0300");
        put(slot(0xb0), "776562");
    }
    void TearDown() override {
        ::munmap(bytes_, kBytes);
        ::shm_unlink(name_.c_str());
    }
    static std::size_t slot(std::size_t offset) { return 256 + 512 + offset; }
    void put(std::size_t offset, std::string_view hex) {
        const std::string bytes = unhex(hex);
        std::memcpy(bytes_ + offset, bytes.data(), bytes.size());
    }
    std::string get(std::size_t offset, std::size_t count) {
        return std::string(bytes_ + offset, count);
    }
    MetricsSlot mine(std::uint64_t generation = 7) {
        return {.shm_name = name_, .slot = 1, .generation = generation};
    }
    std::string open_error(const MetricsSlot& slot) {
        try {
            (void)MetricsSlotWriter::open(slot);
            return "opened";
        } catch (const Error& error) {
            return error.detail();
        }
    }
    std::string name_;
    UniqueFd fd_;
    char* bytes_ = nullptr;
};

TEST_F(Registry, GoldenSlotAfterActivationAndSamples) {
    auto writer = MetricsSlotWriter::open(mine());
    writer.activate(9, 4242, 1'700'000'000'000);
    MetricsSample sample{.sampled_ms = 1'700'000'001'000,
                         .vcpu_ns = 1'500'000'000,
                         .cpu_percent = 12.5f,
                         .memory_used = 53248,
                         .memory_available = 450527232,
                         .disk_read = 4096,
                         .disk_written = 8192,
                         .net_received = 100,
                         .net_sent = 200,
                         .upper_used = 1048576,
                         .upper_free = 4293918720,
                         .upper_allocated = 2097152};
    for (int i = 0; i < 3; ++i)
        ASSERT_TRUE(writer.write(sample));
    EXPECT_EQ(get(slot(0), 0x68),
              unhex("0200000000000000 0700000000000000 0a00000000000000 0500000009000000"
                    "9210000000000000 0068e5cf8b010000 e86be5cf8b010000 7700000000000000"
                    "0000002000000000 002f685900000000 0000484100000000 00d0000000000000"
                    "0080da1a00000000"));
    EXPECT_EQ(get(slot(0x68), 8), std::string(8, '\0')) << "fields without their flag are 0";
    EXPECT_EQ(get(slot(0x70), 0x40),
              unhex("0010000000000000 0020000000000000 6400000000000000 c800000000000000"
                    "0000100000000000 0000f0ff00000000 0000200000000000 0300000000000000"));
}

TEST_F(Registry, FirstSampleHasNoCpu) {
    auto writer = MetricsSlotWriter::open(mine());
    writer.activate(9, 4242, 1);
    ASSERT_TRUE(writer.write({.sampled_ms = 5, .vcpu_ns = 77}));
    EXPECT_EQ(get(slot(0x38), 4), std::string(4, '\0'));
    EXPECT_EQ(get(slot(0x48), 8), std::string(8, '\0'));
}

TEST_F(Registry, ReleaseFencesTheOldGeneration) {
    auto writer = MetricsSlotWriter::open(mine()), other = MetricsSlotWriter::open(mine());
    writer.activate(9, 4242, 1);
    EXPECT_TRUE(writer.release(MetricsSlotState::kStale));
    EXPECT_EQ(get(slot(0), 4), unhex("03000000"));
    EXPECT_EQ(get(slot(8), 8), unhex("0800000000000000"));
    EXPECT_FALSE(other.write({}));
    EXPECT_FALSE(other.release(MetricsSlotState::kFree));
    EXPECT_EQ(get(slot(0), 4), unhex("03000000"));
}

TEST_F(Registry, WrongGenerationLeavesTheReservation) {
    auto writer = MetricsSlotWriter::open(mine(6));
    try {
        writer.activate(9, 4242, 1);
        ADD_FAILURE();
    } catch (const Error& error) {
        EXPECT_EQ(error.detail(), "generation mismatch: expected 6, observed 7");
    }
    EXPECT_FALSE(writer.release_reservation());
    EXPECT_EQ(get(slot(0), 4), unhex("01000000"));
}

TEST_F(Registry, ReservationIsGivenBack) {
    auto writer = MetricsSlotWriter::open(mine());
    EXPECT_TRUE(writer.release_reservation());
    EXPECT_EQ(get(slot(0), 4), unhex("00000000"));
    EXPECT_EQ(get(slot(8), 8), unhex("0800000000000000"));
    EXPECT_FALSE(writer.release_reservation());
}

TEST_F(Registry, SlotThatIsNotReserved) {
    put(slot(0), "03000000");
    auto writer = MetricsSlotWriter::open(mine());
    try {
        writer.activate(9, 4242, 1);
        ADD_FAILURE();
    } catch (const Error& error) {
        EXPECT_EQ(error.detail(), "cannot activate slot 1: state moved out of Reserved (3)");
    }
}

TEST_F(Registry, WriterThatDiedInsideDoesNotHang) {
    auto writer = MetricsSlotWriter::open(mine());
    writer.activate(9, 4242, 1);
    put(slot(0x10), "0500000000000000");
    EXPECT_FALSE(writer.write({}));
    EXPECT_FALSE(writer.release(MetricsSlotState::kStale));
}

TEST_F(Registry, WhatIsNoRegistry) {
    EXPECT_EQ(open_error({.shm_name = "/msb-test-none", .slot = 0, .generation = 1}),
              "metrics registry does not exist");
    MetricsSlot beyond = mine();
    beyond.slot = 2;
    EXPECT_EQ(open_error(beyond), "slot index 2 out of range (capacity=2)");
    put(0x10, "01020000");
    EXPECT_EQ(open_error(mine()), "unexpected slot length: 513");
    put(0x0c, "01000000");
    EXPECT_EQ(open_error(mine()), "unexpected header length: 1");
    put(0x08, "04000000");
    EXPECT_EQ(open_error(mine()), "incompatible registry version: 4");
    put(0x00, "0100000000000000");
    EXPECT_EQ(open_error(mine()), "invalid registry magic: 0x1");
    put(0x18, "09000000");
    EXPECT_EQ(open_error(mine()), "invalid registry header state: 9");
}

}  // namespace
}  // namespace msb::contract
