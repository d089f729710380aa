// Writes, lists, reads and copies files of a running sandbox, then shows its log.
//   files ./root.raw
#include <microsandbox/sandbox.h>

#include <iostream>

using namespace microsandbox;

int main(int argc, char** argv) try {
    const char* image = argc > 1 ? argv[1] : "./root.raw";
    auto box = Sandbox::builder("files").image(image).replace().create();
    auto fs = box.fs();
    fs.mkdir("/work/data");
    fs.write("/work/data/a.txt", "hello from the host\n");
    fs.copy("/work/data/a.txt", "/work/data/b.txt");
    for (const FsEntry& entry : fs.list("/work/data"))
        std::cout << to_string(entry.kind) << " " << entry.size << " " << entry.path << "\n";
    std::cout << box.exec("cat", {"/work/data/b.txt"}).stdout_bytes;
    fs.copy_from_host(argv[0], "/work/data/program");
    std::cout << "copied " << fs.stat("/work/data/program").size << " bytes\n";
    for (const LogEntry& entry : box.logs({.tail = 5}))
        std::cout << to_string(entry.source) << ": " << entry.data;
    box.stop();
    Sandbox::remove("files");
    return 0;
} catch (const Error& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
}
