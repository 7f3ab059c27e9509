"""Loopback addresses and ports that stay ours: taken as wished where possible, others where not.

A wished address that this machine does not have (macOS has only 127.0.0.1 of 127.0.0.0/8) becomes 127.0.0.1; a wished
port that is taken becomes a free one. The socket that is returned holds the place.
"""

import errno
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass


@dataclass(slots=True)
class Reservation:
    """A bound TCP socket; it does not listen yet."""

    socket: socket.socket
    wished: tuple[str, int]

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.socket.getsockname()
        return str(host), int(port)

    def leave_to_others(self) -> None:
        """Let another process listen here: an Envoy, or the control plane.

        On Linux the place stays ours for others: Envoy's listener sets SO_REUSEPORT, so it may share it with this
        socket, which never listens and so gets no connection; a plain bind is refused.
        """
        if sys.platform == "linux":
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        else:
            self.socket.close()

    def close(self) -> None:
        self.socket.close()


def _bind(host: str, port: int, *options: int) -> socket.socket:
    bound = socket.socket()
    for option in options:
        bound.setsockopt(socket.SOL_SOCKET, option, 1)
    try:
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound


def _only_lingering(host: str, port: int) -> bool:
    """True if a place is refused only because of closed connections in TIME_WAIT."""
    try:
        with _bind(host, port, socket.SO_REUSEADDR) as probe:
            probe.listen()
    except OSError:
        return False
    return True


def reserve(host: str, port: int) -> Reservation:
    """Reserve `host:port`, or the nearest thing to it; port 0 takes any free one."""
    wished = (host, port)
    try:
        # Not with SO_REUSEADDR, which would let two sockets that do not listen yet have the same place.
        return Reservation(_bind(host, port), wished)
    except OSError as error:
        if sys.platform == "linux" and error.errno == errno.EADDRINUSE and _only_lingering(host, port):
            # What lingers is an Envoy's, so it was bound with the same option.
            with suppress(OSError):
                return Reservation(_bind(host, port, socket.SO_REUSEPORT), wished)
        if error.errno == errno.EADDRNOTAVAIL and host != "127.0.0.1":
            taken = reserve("127.0.0.1", port)
            return Reservation(taken.socket, wished)
        if error.errno not in (errno.EADDRINUSE, errno.EACCES) or port == 0:
            raise
    return Reservation(_bind(host, 0), wished)


def free_port(host: str = "127.0.0.1") -> int:
    """A port that is free now. For programs that bind it themselves, soon."""
    with _bind(host, 0) as bound:
        return int(bound.getsockname()[1])
