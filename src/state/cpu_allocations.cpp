#include "state/cpu_allocations.h"

#include <set>

#include "state/sql.h"

namespace msb::state {

namespace {

void remove(SQLite::Database& connection, const std::string& id) {
    // Named one by one: whether foreign keys cascade is a setting of each connection.
    for (const char* statement : {"DELETE FROM cpu_allocation_cpu WHERE allocation_id = ?",
                                  "DELETE FROM memory_allocation_node WHERE allocation_id = ?",
                                  "DELETE FROM cpu_allocation WHERE id = ?"}) {
        SQLite::Statement erase(connection, statement);
        sql::bind_text(erase, 1, id);
        erase.exec();
    }
}

void insert_processors(SQLite::Database& connection, const CpuAllocation& allocation) {
    SQLite::Statement insert(connection,
                             "INSERT INTO cpu_allocation_cpu (allocation_id, vcpu_index, "
                             "logical_cpu, role) VALUES (?, ?, ?, 'planned')");
    for (std::size_t vcpu = 0; vcpu < allocation.processors.size(); ++vcpu) {
        insert.reset();
        sql::bind_text(insert, 1, allocation.id);
        insert.bind(2, static_cast<std::int64_t>(vcpu));
        insert.bind(3, static_cast<std::int64_t>(allocation.processors[vcpu]));
        insert.exec();
    }
}

void insert_memory(SQLite::Database& connection, const std::string& id,
                   const MemoryReservation& memory) {
    SQLite::Statement insert(connection,
                             "INSERT INTO memory_allocation_node (allocation_id, guest_numa_node, "
                             "host_numa_node, boot_mib, max_mib) VALUES (?, 0, ?, ?, ?)");
    sql::bind_text(insert, 1, id);
    insert.bind(2, static_cast<std::int64_t>(memory.host_node));
    insert.bind(3, static_cast<std::int64_t>(memory.boot_mib));
    insert.bind(4, static_cast<std::int64_t>(memory.max_mib));
    insert.exec();
}

}  // namespace

HostLoad read_host_load(Database& database, const std::function<bool(std::string_view)>& stale,
                        std::vector<std::string>& gone) {
    HostLoad load;
    std::set<std::string> dead;
    database.read([&](SQLite::Database& connection) {
        load = {};
        dead.clear();
        SQLite::Statement owners(connection, "SELECT id, lease_name FROM cpu_allocation");
        while (owners.executeStep())
            if (stale(sql::text(owners.getColumn(1)))) dead.insert(sql::text(owners.getColumn(0)));
        SQLite::Statement processors(connection,
                                     "SELECT allocation_id, logical_cpu FROM cpu_allocation_cpu");
        while (processors.executeStep())
            if (!dead.contains(sql::text(processors.getColumn(0))))
                ++load.processors[processors.getColumn(1).getInt()];
        SQLite::Statement nodes(
            connection,
            "SELECT allocation_id, host_numa_node, max_mib FROM memory_allocation_node");
        while (nodes.executeStep())
            if (!dead.contains(sql::text(nodes.getColumn(0))))
                load.nodes_mib[nodes.getColumn(1).getInt()] +=
                    static_cast<std::uint64_t>(nodes.getColumn(2).getInt64());
    });
    gone.insert(gone.end(), dead.begin(), dead.end());
    return load;
}

void insert_cpu_allocation(Database& database, const CpuAllocation& allocation,
                           const std::vector<std::string>& gone) {
    database.write([&](SQLite::Database& connection) {
        for (const std::string& id : gone)
            remove(connection, id);
        SQLite::Statement insert(
            connection,
            "INSERT INTO cpu_allocation (id, run_id, requested_policy, resolved_policy, "
            "enforcement, topology_fingerprint, lease_name, state, created_at) "
            "VALUES (?1, ?2, ?3, ?3, 'pending', ?4, ?5, 'pending', ?6)");
        sql::bind_text(insert, 1, allocation.id);
        insert.bind(2, allocation.run_id);
        sql::bind_text(insert, 3, allocation.policy);
        sql::bind_text(insert, 4, allocation.topology_fingerprint);
        sql::bind_text(insert, 5, allocation.lease_name);
        insert.bind(6, sql::now());
        insert.exec();
        insert_processors(connection, allocation);
        if (allocation.memory) insert_memory(connection, allocation.id, *allocation.memory);
    });
}

void activate_cpu_allocation(Database& database, const std::string& id,
                             const std::vector<bool>& pinned, std::string_view enforcement,
                             bool memory_applied) {
    database.write([&](SQLite::Database& connection) {
        SQLite::Statement assign(connection,
                                 "UPDATE cpu_allocation_cpu SET role = 'assigned' "
                                 "WHERE allocation_id = ? AND vcpu_index = ?");
        for (std::size_t vcpu = 0; vcpu < pinned.size(); ++vcpu) {
            if (!pinned[vcpu]) continue;
            assign.reset();
            sql::bind_text(assign, 1, id);
            assign.bind(2, static_cast<std::int64_t>(vcpu));
            assign.exec();
        }
        SQLite::Statement unpinned(
            connection,
            "DELETE FROM cpu_allocation_cpu WHERE allocation_id = ? AND role = 'planned'");
        sql::bind_text(unpinned, 1, id);
        unpinned.exec();
        if (!memory_applied) {
            SQLite::Statement memory(connection,
                                     "DELETE FROM memory_allocation_node WHERE allocation_id = ?");
            sql::bind_text(memory, 1, id);
            memory.exec();
        }
        SQLite::Statement activate(
            connection, "UPDATE cpu_allocation SET enforcement = ?, state = 'active' WHERE id = ?");
        sql::bind_text(activate, 1, enforcement);
        sql::bind_text(activate, 2, id);
        activate.exec();
    });
}

void delete_cpu_allocation(Database& database, const std::string& id) {
    database.write([&](SQLite::Database& connection) { remove(connection, id); });
}

}  // namespace msb::state
