"""Root file systems for the tests: busybox and the files the cases look for."""

import os
import shutil
import subprocess

PASSWD = """root:x:0:0:root:/root:/bin/sh
alice:x:1000:1000:Alice:/home/alice:/bin/sh
homeless:x:1001:1001:::/bin/sh
"""
GROUP = """root:x:0:
wheel:x:10:alice
alice:x:1000:
extra:x:2000:bob,alice
"""
# name -> (mode, content): what exec cases try to run.
CASE_FILES = {
    "not-executable": (0o644, "#!/bin/sh\n"),
    "no-shebang": (0o755, "echo never\n"),
    "bad-interpreter": (0o755, "#!/no/such\n"),
}


def write_cases(directory):
    os.makedirs(directory, exist_ok=True)
    for name, (mode, content) in CASE_FILES.items():
        path = os.path.join(directory, name)
        with open(path, "w") as file:
            file.write(content)
        os.chmod(path, mode)


def make_tree(root):
    for name in ("bin", "etc", "root", "home/alice", "tmp", "usr/bin"):
        os.makedirs(os.path.join(root, name))
    shutil.copy("/bin/busybox", os.path.join(root, "bin/busybox"))
    applets = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True)
    for applet in applets.stdout.split():
        if applet != "busybox":
            os.symlink("busybox", os.path.join(root, "bin", applet))
    for name, content in (("passwd", PASSWD), ("group", GROUP), ("hosts", "1.2.3.4 gone\n")):
        with open(os.path.join(root, "etc", name), "w") as file:
            file.write(content)
    write_cases(os.path.join(root, "t"))
    init = os.path.join(root, "bin/test-init")
    with open(init, "w") as file:
        file.write(
            "#!/bin/sh\n"
            '[ "$2" = deaf ] || trap "sync; mount -o remount,ro / && reboot -f" 38\n'
            'printf "%s|" "$0" "$@" > /tmp/init-args\n'
            "pwd > /tmp/init-cwd; env > /tmp/init-env\n"
            "while :; do sleep 1; done\n"
        )
    os.chmod(init, 0o755)


class Store:
    def __init__(self, directory):
        self.directory = directory
        self.copies = 0

    def path(self, name):
        return os.path.join(self.directory, name)

    def tree(self):
        root = self.path("tree")
        if not os.path.exists(root):
            make_tree(root)
        return root

    def run(self, *command):
        subprocess.run(command, check=True, capture_output=True)

    def ext4(self, name, tree=None, size="32M", options=()):
        path = self.path(name)
        if not os.path.exists(path):
            source = ["-d", tree] if tree else []
            self.run("mke2fs", "-q", "-F", "-t", "ext4", *options, *source, path, size)
        return path

    def root_ext4(self):
        return self.ext4("root.ext4", self.tree())

    def root_erofs(self):
        path = self.path("root.erofs")
        if not os.path.exists(path):
            self.run("mkfs.erofs", path, self.tree())
        return path

    def root_qcow2(self):
        path = self.path("root.qcow2")
        if not os.path.exists(path):
            self.run("qemu-img", "convert", "-O", "qcow2", self.root_ext4(), path)
        return path

    def copy(self, path):
        """A private writable copy."""
        self.copies += 1
        copy = f"{path}.{self.copies}"
        shutil.copy(path, copy)
        return copy


def assert_clean(path):
    """The ext4 file system was left with nothing to recover."""
    check = subprocess.run(["e2fsck", "-fn", path], capture_output=True, text=True)
    assert check.returncode == 0, check.stdout + check.stderr
    header = subprocess.run(["dumpe2fs", "-h", path], capture_output=True, text=True, check=True)
    assert "needs_recovery" not in header.stdout
    state = [line for line in header.stdout.splitlines() if line.startswith("Filesystem state:")]
    assert state and state[0].split()[-1] == "clean", state
