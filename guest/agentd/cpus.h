// Bringing vCPUs online and offline: QEMU starts with the maximum, the kernel boots with fewer.
#pragma once

#include <string>
#include <string_view>

namespace msb::agentd {

// "0-2,5" -> 4; 0 for text that is not a CPU list.
unsigned count_cpus(std::string_view cpu_list);

class Cpus {
  public:
    // `directory` is /sys/devices/system/cpu but for tests.
    explicit Cpus(std::string directory = "/sys/devices/system/cpu")
        : directory_(std::move(directory)) {}

    unsigned online() const;
    // Makes `target` CPUs (at least 1, at most all) online: lowest numbers first, highest off first.
    // Returns how many are online afterwards.
    unsigned set_online(unsigned target) const;

  private:
    bool switch_cpu(unsigned cpu, bool on) const;

    std::string directory_;
};

}  // namespace msb::agentd
