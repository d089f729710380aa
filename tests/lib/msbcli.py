"""Runs the msb command line, on pipes or in a tmux terminal, for the end-to-end tests."""

import contextlib
import os
import shlex
import subprocess
import time

TERMINAL_TIMEOUT = 120
COMMAND_TIMEOUT = 300  # seconds; a hang guard for slow machines, not an assertion


def wait_until(condition, timeout=60, what="condition"):
    """Polls; for states another process reaches without telling us."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise TimeoutError(f"timed out waiting for {what}")
        time.sleep(0.05)


def children_of(pid):
    """The process ids of the children of a process' main thread."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [int(word) for word in file.read().split()]


class Result:
    def __init__(self, completed):
        self.code = completed.returncode
        self.out = completed.stdout.decode()
        self.err = completed.stderr.decode()

    def __repr__(self):
        return f"exit {self.code}\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


class Msb:
    def __init__(self, binary, home, cwd):
        self.binary, self.home, self.cwd = binary, home, cwd

    def environment(self, **extra):
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.cwd), "TERM": "xterm", "MSB_HOME": str(self.home),
                       "LC_ALL": "C.UTF-8"}
        for name in ("MSB_KERNEL", "MSB_INITRAMFS", "MSB_QEMU", "MSB_ACCEL"):
            if name in os.environ:
                environment[name] = os.environ[name]
        environment.update(extra)
        return {name: value for name, value in environment.items() if value is not None}

    def __call__(self, *args, stdin=b"", env={}, timeout=COMMAND_TIMEOUT):
        words = [str(self.binary), *map(str, args)]
        return Result(subprocess.run(words, input=stdin, capture_output=True, cwd=self.cwd, timeout=timeout,
                                     env=self.environment(**env)))

    def ok(self, *args, **options):
        result = self(*args, **options)
        assert result.code == 0, f"msb {args}: {result}"
        return result

    def popen(self, *args, **options):
        return subprocess.Popen([str(self.binary), *map(str, args)], cwd=self.cwd, env=self.environment(), **options)

    def names(self):
        return self("ls", "-q").out.split()


class Terminal:
    """A shell in a tmux window of its own server."""

    def __init__(self, msb, columns=100, rows=30):
        self.socket = str(msb.cwd / "tmux.sock")
        environment = msb.environment(PS1="host> ", MSB=str(msb.binary))
        assignments = " ".join(shlex.quote(f"{name}={value}") for name, value in environment.items())
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(rows),
                  f"cd {shlex.quote(str(msb.cwd))} && exec env -i {assignments} TERM=screen bash --norc --noprofile")
        try:
            self.expect("host>", 60)
        except AssertionError:
            self.close()
            raise

    def tmux(self, *args):
        return subprocess.run(["tmux", "-S", self.socket, *args], check=True, capture_output=True, text=True).stdout

    def type(self, text):
        self.tmux("send-keys", "-l", text)

    def key(self, *keys):
        self.tmux("send-keys", *keys)

    def line(self, text):
        self.type(text)
        self.key("Enter")

    def shell_pid(self):
        return int(self.tmux("display-message", "-p", "#{pane_pid}"))

    def screen(self):
        return self.tmux("capture-pane", "-p")

    def colored_screen(self):
        return self.tmux("capture-pane", "-p", "-e")

    def last_line(self):
        lines = [line for line in self.screen().split("\n") if line.strip()]
        return lines[-1] if lines else ""

    # tmux drops trailing blanks of a line, so what is expected must not have any.

    def expect(self, text, timeout=TERMINAL_TIMEOUT, count=1):
        """The screen shows the text, `count` times."""
        try:
            wait_until(lambda: self.screen().count(text) >= count, timeout, repr(text))
        except TimeoutError as error:
            raise AssertionError(f"{error}; the screen shows:\n{self.screen()}") from None

    def expect_last(self, text, timeout=TERMINAL_TIMEOUT):
        """The cursor's line ends with the text: a prompt is back (behind what a detached program left there)."""
        try:
            wait_until(lambda: self.last_line().endswith(text), timeout, repr(text))
        except TimeoutError as error:
            raise AssertionError(f"{error}; the screen shows:\n{self.screen()}") from None

    def resize(self, columns, rows):
        self.tmux("resize-window", "-x", str(columns), "-y", str(rows))

    def close(self):
        subprocess.run(["tmux", "-S", self.socket, "kill-server"], capture_output=True)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.socket)
