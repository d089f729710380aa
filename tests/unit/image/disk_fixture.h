// A temporary directory and the tools of e2fsprogs, for tests of disks.
#pragma once

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>

#include <cstdio>
#include <filesystem>
#include <string>

#include "base/error.h"

namespace msb::image {

class DiskTest : public testing::Test {
  protected:
    DiskTest() {
        std::string pattern = "/tmp/msb-disk-XXXXXX";
        directory_ = ::mkdtemp(pattern.data());
    }
    ~DiskTest() override {
        std::error_code ec;
        std::filesystem::remove_all(directory_, ec);
    }

    // Output and exit status of a shell command: "text[0]".
    static std::string run(const std::string& command) {
        FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
        std::string output;
        char buffer[4096];
        while (std::size_t n = std::fread(buffer, 1, sizeof buffer, pipe))
            output.append(buffer, n);
        output += "[" + std::to_string(::pclose(pipe)) + "]";
        return output;
    }
    static void expect_clean(const std::filesystem::path& image) {
        std::string output = run("e2fsck -fn " + image.string());
        EXPECT_TRUE(output.ends_with("[0]")) << output;
    }
    // What debugfs prints for one command.
    static std::string debugfs(const std::filesystem::path& image, const std::string& command) {
        return run("debugfs -R '" + command + "' " + image.string());
    }
    static std::uint64_t size_of(const std::filesystem::path& path) {
        return std::filesystem::file_size(path);
    }
    static std::uint64_t allocated(const std::filesystem::path& path) {
        struct stat st{};
        EXPECT_EQ(::stat(path.c_str(), &st), 0);
        return static_cast<std::uint64_t>(st.st_blocks) * 512;
    }

    // The whole text of the error `action` throws; "" when it throws none.
    template <class Action>
    static std::string error_of(Action action) {
        try {
            action();
        } catch (const Error& e) {
            return e.what();
        }
        return "";
    }

    std::filesystem::path directory_;
};

}  // namespace msb::image
