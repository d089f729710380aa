// Planning of host processors and nodes (spec/sandbox-process.md section 14), and its rows and leases.
#include "runtime/placement.h"

#include <gmock/gmock.h>
#include <stdlib.h>
#include <sys/file.h>

#include <fstream>

#include "base/error.h"
#include "base/process.h"
#include "runtime/cpu_plan.h"
#include "state/run_rows.h"
#include "state/sandbox_rows.h"

namespace msb::runtime {
namespace {

namespace fs = std::filesystem;
using contract::CpuPlacement;
using contract::NumaMode;
using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// Two packages (nodes) of two cores of two threads, numbered as Linux does: siblings are 4 apart.
HostTopology two_packages() {
    HostTopology topology;
    for (int package = 0; package < 2; ++package)
        for (int core = 0; core < 2; ++core)
            for (int thread = 0; thread < 2; ++thread)
                topology.processors.push_back({.index = 2 * package + core + 4 * thread,
                                               .package = package,
                                               .die = 0,
                                               .core = core,
                                               .node = package});
    topology.nodes = {{0, 4000, 8000}, {1, 6000, 8000}};
    return topology;
}

state::HostLoad load(std::map<int, unsigned> processors) {
    return {.processors = std::move(processors), .nodes_mib = {}};
}

TEST(CpuPlan, AutoTakesUntouchedCoresThenSiblingsThenTheLeastLoaded) {
    const HostTopology host = two_packages();
    EXPECT_THAT(plan_processors(host, CpuPlacement::kAuto, 10, {}),
                ElementsAre(0, 1, 2, 3, 4, 5, 6, 7, 0, 1));
    EXPECT_THAT(plan_processors(host, CpuPlacement::kAuto, 4, load({{0, 1}, {2, 1}})),
                ElementsAre(1, 3, 4, 5));
    // All taken: the processor with the fewest users, on the core with the fewest.
    EXPECT_THAT(
        plan_processors(host, CpuPlacement::kAuto, 2,
                        load({{0, 2}, {1, 2}, {2, 1}, {3, 1}, {4, 1}, {5, 2}, {6, 2}, {7, 1}})),
        ElementsAre(3, 4));
}

TEST(CpuPlan, SpreadPrefersTheLeastLoadedCore) {
    const HostTopology host = two_packages();
    EXPECT_THAT(plan_processors(host, CpuPlacement::kSpread, 5, load({{0, 3}})),
                ElementsAre(1, 2, 3, 5, 6));
    EXPECT_THAT(
        plan_processors(host, CpuPlacement::kSpread, 2,
                        load({{0, 1}, {4, 1}, {1, 1}, {5, 1}, {2, 2}, {6, 3}, {3, 1}, {7, 2}})),
        ElementsAre(0, 1));
}

TEST(CpuPlan, CompactFillsBusyCoresFirst) {
    const HostTopology host = two_packages();
    EXPECT_THAT(plan_processors(host, CpuPlacement::kCompact, 4, {}), ElementsAre(0, 4, 1, 5));
    EXPECT_THAT(plan_processors(host, CpuPlacement::kCompact, 4, load({{3, 1}, {6, 2}})),
                ElementsAre(2, 7, 0, 4));
    EXPECT_THAT(
        plan_processors(host, CpuPlacement::kCompact, 1,
                        load({{0, 1}, {4, 1}, {1, 1}, {5, 2}, {2, 2}, {6, 2}, {3, 1}, {7, 1}})),
        ElementsAre(1));
}

TEST(CpuPlan, NodesAreChosenByFreeMemoryAndMustFit) {
    const HostTopology host = two_packages();
    EXPECT_EQ(choose_node(host, {}, 4, 512, 1024), 1);
    EXPECT_EQ(choose_node(host, load({{2, 1}}), 4, 512, 1024), 0) << "a processor is shared";
    EXPECT_EQ(choose_node(host, {.processors = {}, .nodes_mib = {{1, 7500}}}, 4, 512, 1024), 0);
    EXPECT_EQ(choose_node(host, {}, 4, 5000, 5000), 1);
    EXPECT_EQ(choose_node(host, {}, 4, 7000, 7000), std::nullopt) << "not free now";
    EXPECT_EQ(choose_node(host, {}, 5, 512, 1024), std::nullopt);
    EXPECT_THAT(on_node(host, 1).processors, SizeIs(4));
}

TEST(CpuPlan, TopologyIsReadFromSysfs) {
    std::string root = "/tmp/placement-XXXXXX";
    ASSERT_NE(::mkdtemp(root.data()), nullptr);
    const auto write = [&](const std::string& path, const std::string& text) {
        const fs::path file = fs::path(root) / "devices/system" / path;
        fs::create_directories(file.parent_path());
        std::ofstream(file) << text;
    };
    for (int cpu = 0; cpu < 4; ++cpu) {
        const std::string place = "cpu/cpu" + std::to_string(cpu) + "/topology/";
        write(place + "physical_package_id", std::to_string(cpu % 2));
        write(place + "die_id", "-1");
        write(place + "core_id", "0");
        write("node/node" + std::to_string(cpu % 2) + "/cpu" + std::to_string(cpu) + "/online", "");
    }
    write("node/node1/meminfo",
          "Node 1 MemTotal:        8388608 kB\nNode 1 MemFree:      2097152 kB\n");
    write("node/possible", "0-1\n");
    const HostTopology host = read_topology({0, 1, 2}, root);
    ASSERT_THAT(host.processors, SizeIs(3));
    EXPECT_EQ(host.processors[1].index, 2) << "sorted by package";
    EXPECT_EQ(host.processors[2].index, 1);
    EXPECT_EQ(host.processors[2].node, 1);
    ASSERT_THAT(host.nodes, SizeIs(2));
    EXPECT_EQ(host.nodes[0].total_mib, 0u);
    EXPECT_EQ(host.nodes[1].free_mib, 2048u);
    EXPECT_EQ(host.nodes[1].total_mib, 8192u);
    EXPECT_EQ(host.fingerprint().size(), 16u);
    EXPECT_NE(host.fingerprint(), read_topology({0, 1}, root).fingerprint());

    const HostTopology bare = read_topology({0, 1}, root + "/nothing");
    EXPECT_THAT(plan_processors(bare, CpuPlacement::kAuto, 3, {}), ElementsAre(0, 1, 0));
    fs::remove_all(root);
}

class PlacementRows : public ::testing::Test {
  protected:
    PlacementRows() {
        EXPECT_NE(::mkdtemp(root_.data()), nullptr);
        paths_.emplace(root_);
        database_.emplace(state::Database::open(*paths_));
        inputs_.config.cpu_lease_dir = fs::path(root_) / "leases";
        inputs_.config.cpu_placement = CpuPlacement::kAuto;
        inputs_.args.vcpus = 1;
        inputs_.args.memory_mib = 64;
    }
    ~PlacementRows() override { fs::remove_all(root_); }

    std::int64_t new_run(const std::string& name) {
        const auto sandbox = state::insert_starting(*database_, name, "{}", false, {});
        return state::insert_run(*database_, sandbox, ::getpid());
    }
    std::size_t live() {
        std::vector<std::string> ids;
        (void)state::read_host_load(*database_, [](std::string_view) { return true; }, ids);
        return ids.size();
    }
    std::size_t leases() {
        return static_cast<std::size_t>(
                   std::distance(fs::directory_iterator(inputs_.config.cpu_lease_dir), {})) -
               1;  // allocator.lock
    }
    std::string error_of_plan() {
        try {
            Placement placement;
            placement.plan(inputs_, *database_, new_run("e" + std::to_string(++errors_)));
            return placement.processors().empty() ? "inherit" : "planned";
        } catch (const Error& error) {
            return error.what();
        }
    }

    std::string root_ = "/tmp/placement-XXXXXX";
    std::optional<state::HomePaths> paths_;
    std::optional<state::Database> database_;
    Inputs inputs_;
    int errors_ = 0;
};

TEST_F(PlacementRows, ReservationsLiveAsLongAsTheirOwner) {
    {
        Placement first;
        first.plan(inputs_, *database_, new_run("a"));
        ASSERT_THAT(first.processors(), SizeIs(1));
        EXPECT_EQ(fs::status(inputs_.config.cpu_lease_dir).permissions(), fs::perms::owner_all);
        Placement second;
        second.plan(inputs_, *database_, new_run("b"));
        if (allowed_processors().size() > 1) {
            EXPECT_NE(first.processors(), second.processors()) << "an untouched core";
        }
        first.activate(*database_, {true});
        second.activate(*database_, {false});
        EXPECT_EQ(live(), 2u);
        EXPECT_EQ(leases(), 2u);
        second.release(*database_);
        second.release(*database_);
        EXPECT_EQ(live(), 1u);
        EXPECT_EQ(leases(), 1u);
    }
    // The first owner is gone without a word: its lease is free, and the next planner takes its rows away.
    Placement third;
    third.plan(inputs_, *database_, new_run("c"));
    EXPECT_EQ(live(), 1u);
    EXPECT_EQ(leases(), 1u);
    third.release(*database_);
    EXPECT_EQ(live(), 0u);
}

TEST_F(PlacementRows, WhatCannotBePlannedDegradesUnlessItIsStrict) {
    inputs_.config.cpu_placement = CpuPlacement::kInherit;
    EXPECT_EQ(error_of_plan(), "inherit");
    EXPECT_FALSE(fs::exists(inputs_.config.cpu_lease_dir)) << "nothing is written";
    inputs_.config.placement_profile = contract::PlacementProfile{.numa = NumaMode::kPreferSingle};
    EXPECT_EQ(error_of_plan(), "inherit");
    inputs_.config.placement_profile->numa = NumaMode::kStrictSingle;
    EXPECT_EQ(error_of_plan(),
              "managed NUMA placement requires auto, spread, or compact CPU placement");
    inputs_.config.cpu_placement = CpuPlacement::kSpread;
    inputs_.args.memory_mib = 1u << 30;
    EXPECT_EQ(
        error_of_plan(),
        "NUMA placement strict_single cannot fit max_cpus=1 and max_memory_mib=1073741824 on one "
        "allowed host node");

    // A planner that does not come to an end holds nobody up.
    inputs_.config.placement_profile.reset();
    const auto busy = FileLock::acquire(inputs_.config.cpu_lease_dir / "allocator.lock");
    EXPECT_EQ(error_of_plan(), "inherit");
    EXPECT_EQ(live(), 0u);
}

}  // namespace
}  // namespace msb::runtime
