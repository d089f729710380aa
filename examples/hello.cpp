// Boots a disk image, runs a command in it, passes its exit code on.
//   hello ./root.raw
#include <microsandbox/sandbox.h>

#include <iostream>

int main(int argc, char** argv) try {
    const char* image = argc > 1 ? argv[1] : "./root.raw";
    auto box = microsandbox::Sandbox::builder("hello").image(image).replace().create();
    auto out = box.shell("uname -r; echo out; echo err >&2; exit 7");
    std::cout << out.stdout_bytes << std::flush;
    std::cerr << out.stderr_bytes;
    box.stop();
    microsandbox::Sandbox::remove("hello");
    return out.status.code;
} catch (const microsandbox::Error& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
}
