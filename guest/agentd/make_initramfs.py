#!/usr/bin/env python3
"""Writes the initramfs: a newc cpio archive with the agent as /init. The same input gives the same
bytes, and device nodes need no privileges, because the archive is written, not packed from a tree.

usage: make_initramfs.py INIT OUTPUT
"""

import os
import stat
import sys

# Mount points the agent uses before it has a root file system, and the console the kernel opens for
# PID 1 before devtmpfs exists.
DIRECTORIES = ("dev", "proc", "sys", "newroot", ".msb", "root", "tmp")
CONSOLE_MAJOR, CONSOLE_MINOR = 5, 1
TRAILER = "TRAILER!!!"


def padded(data):
    return data + b"\0" * (-len(data) % 4)


class Archive:
    """Entries in the "new ASCII" format of Documentation/driver-api/early-userspace/buffer-format.rst."""

    def __init__(self):
        self.parts = []
        self.inode = 0

    def add(self, name, mode, data=b"", device=(0, 0)):
        self.inode += 1
        encoded = name.encode() + b"\0"
        links = 2 if stat.S_ISDIR(mode) else 1
        fields = (self.inode, mode, 0, 0, links, 0, len(data), 0, 0, *device, len(encoded), 0)
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        self.parts.append(padded(header + encoded) + padded(data))

    def content(self):
        self.inode = -1
        self.add(TRAILER, 0)
        content = b"".join(self.parts)
        return content + b"\0" * (-len(content) % 512)


def build(init):
    archive = Archive()
    for name in DIRECTORIES:
        archive.add(name, stat.S_IFDIR | (0o1777 if name == "tmp" else 0o755))
    archive.add("dev/console", stat.S_IFCHR | 0o600, device=(CONSOLE_MAJOR, CONSOLE_MINOR))
    archive.add("init", stat.S_IFREG | 0o755, init)
    return archive.content()


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__.rstrip().rsplit("\n", 1)[-1])
    source, output = sys.argv[1:]
    with open(source, "rb") as file:
        content = build(file.read())
    temporary = output + ".tmp"
    with open(temporary, "wb") as file:
        file.write(content)
    os.replace(temporary, output)


if __name__ == "__main__":
    main()
