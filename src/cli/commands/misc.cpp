// context and the hidden __schema-baseline.
#include <microsandbox/sandbox.h>

#include <nlohmann/json.hpp>

#include "cli/commands/commands.h"
#include "cli/style.h"
#include "cli/values.h"
#include "state/database.h"

namespace msb::cli {

namespace {

// The oldest release whose database this build can go back to (spec/cli.md section 10.3).
constexpr std::string_view kDowngradeFloor = "0.6.0";
constexpr int kBaselineVersion = 1;

}  // namespace

int context_command(const Matches& matches) {
    const auto backend = microsandbox::backend_info();
    if (matches.has("format")) {
        nlohmann::ordered_json document;
        document["kind"] = backend.kind;
        if (backend.api_url) document["api_url"] = *backend.api_url;
        document["source"] = backend.source;
        if (backend.profile) document["profile"] = *backend.profile;
        write_out(document.dump(2) + "\n");
        return 0;
    }
    std::vector<std::vector<Cell>> rows;
    rows.push_back({{"Backend"}, {backend.kind}});
    if (backend.api_url) rows.push_back({{"API URL"}, {*backend.api_url}});
    rows.push_back({{"Source"}, {backend.source}});
    if (backend.profile) rows.push_back({{"Profile"}, {*backend.profile}});
    write_out(render_table({"FIELD", "VALUE"}, rows));
    return 0;
}

int schema_baseline_command(const Matches& matches) {
    if (!matches.has("json")) fail_value("__schema-baseline requires --json");
    nlohmann::json document;
    document["downgrade_floor"] = kDowngradeFloor;
    document["migrations"] = state::migration_ids();
    document["msb_version"] = microsandbox::version();
    document["schema_baseline_version"] = kBaselineVersion;
    write_out(document.dump(2) + "\n");
    return 0;
}

}  // namespace msb::cli
