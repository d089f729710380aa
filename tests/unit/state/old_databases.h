// Databases as older versions leave them: the full schema taken back migration by migration.
#pragma once

#include <cstddef>

#include "fixture.h"

namespace msb::state::test {

// Creates the database of `home` with the first `migrations` applied (13 to 25).
void create_old_database(const TempHome& home, std::size_t migrations);

}  // namespace msb::state::test
