// seed_sandbox HOME NAME [ephemeral]: opens (creates, migrates) the database of HOME and inserts a sandbox row in status
// Starting, as a launcher does before it starts `msb sandbox`. Prints the row's id.
#include <cstdio>
#include <cstring>

#include "state/database.h"
#include "state/sandbox_rows.h"

int main(int argc, char** argv) {
    if (argc < 3) return 2;
    try {
        auto database = msb::state::Database::open(msb::state::HomePaths(argv[1]));
        const bool ephemeral = argc > 3 && std::strcmp(argv[3], "ephemeral") == 0;
        std::printf("%lld\n", static_cast<long long>(msb::state::insert_starting(
                                  database, argv[2], "{}", ephemeral, {})));
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
}
