// Talks to a command while it runs: input through a pipe, output as it comes, a signal at the end.
//   stream ./root.raw
#include <microsandbox/sandbox.h>

#include <csignal>
#include <iostream>

using namespace microsandbox;

int main(int argc, char** argv) try {
    const char* image = argc > 1 ? argv[1] : "./root.raw";
    auto box = Sandbox::builder("stream").image(image).ephemeral().replace().create();
    auto cat = box.exec_stream("cat", {}, {.stdin_mode = StdinMode::kPipe});
    auto input = cat.take_stdin();
    int sent = 0;
    while (auto event = cat.recv()) {
        if (auto* started = std::get_if<ExecStarted>(&*event))
            std::cout << "pid " << started->pid << "\n";
        if (auto* out = std::get_if<ExecStdout>(&*event)) std::cout << "guest says: " << out->data;
        if (auto* exited = std::get_if<ExecExited>(&*event))
            std::cout << "exit code " << exited->code << "\n";
        if (sent < 3)
            input->write("line " + std::to_string(++sent) + "\n");
        else
            input->close();
    }
    auto sleeper = box.exec_stream("sleep", {"1000"});
    sleeper.recv();  // started
    sleeper.signal(SIGTERM);
    std::cout << "after SIGTERM: " << sleeper.wait().code << "\n";
    box.stop();
    return 0;
} catch (const Error& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
}
