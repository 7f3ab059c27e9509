"""Becomes another program that ends with its parent, whatever ends that (even a SIGKILL).

Run as a script by the bare interpreter (`python -I -S tied.py PARENT PROGRAM …`): it imports only the standard library,
and prints nothing, for its output belongs to the program that it becomes.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def become(parent: int, argv: list[str]) -> None:
    """Exec `argv`, unless the parent has ended already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)
    os.execv(argv[0], argv)  # noqa: S606 - it is the purpose of this file


if __name__ == "__main__":
    become(int(sys.argv[1]), sys.argv[2:])
