"""Becomes another program: gives up root if asked, asks the kernel to end it with its parent, then execs.

Run as a script by the bare interpreter (`python -I -S launch.py …`), inside a network namespace where needed, so it
imports only the standard library. It must not print: its output belongs to the program that it becomes.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def become(uid: int, argv: list[str]) -> None:
    """Exec `argv`; as user and group `uid` unless that is negative."""
    # Opened while still privileged, executed by descriptor: the user need not be able to walk the path to it.
    program = os.open(argv[0], os.O_RDONLY | os.O_CLOEXEC) if uid >= 0 and os.execve in os.supports_fd else argv[0]
    if uid >= 0:
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    if sys.platform == "linux":  # after setuid, which clears it
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    os.execve(program, argv, os.environ)  # noqa: S606 - it is the purpose of this file


if __name__ == "__main__":
    become(int(sys.argv[1]), sys.argv[2:])
