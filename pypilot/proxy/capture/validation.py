"""Sees by a connection whether traffic is captured: whoever depends on it must not start without (IPT-009).

It plays Envoy on Envoy's ports, so Envoy must not run yet; and it connects as Envoy's user, whose calls to other
addresses of loopback than the application's come in again.
"""

import selectors
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

from pypilot.proxy.capture.kernel import families
from pypilot.proxy.capture.plan import Capture
from pypilot.proxy.capture.rules import Family

_LOCAL: Final[dict[Family, str]] = {4: "127.0.0.1", 6: "::1"}
_REDIRECTED: Final[dict[Family, str]] = {4: "127.0.0.6", 6: "::6"}
_ORIGINAL_DESTINATION: Final = 80
"""SO_ORIGINAL_DST of IPv4 and of IPv6."""
_AGAIN_SECONDS: Final = 0.2


class ValidationError(RuntimeError):
    """Nothing came; says why as far as it is known."""


def validate(capture: Capture, probe_port: int, seconds: float, ipv6: bool) -> None:
    """Wait until a connection to the probe's port comes to one of Envoy's.

    Raises:
        ValidationError: none came in time.
    """
    for family in families(ipv6):
        _validate(capture, probe_port, time.monotonic() + seconds, family)


def _validate(capture: Capture, probe_port: int, deadline: float, family: Family) -> None:
    local, kind = _LOCAL[family], socket.AF_INET if family == 4 else socket.AF_INET6
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for port in (capture.proxy_port, capture.inbound_port):
            try:
                listening = stack.enter_context(socket.create_server((local, port), family=kind))
            except OSError as error:
                raise ValidationError(f"cannot listen on {local}:{port}: {error.strerror}") from None
            listening.setblocking(False)
            selector.register(listening, selectors.EVENT_READ)
        while True:
            with _calling(kind, local, (_REDIRECTED[family], probe_port)):
                for key, _ in selector.select(_AGAIN_SECONDS):
                    if isinstance(key.fileobj, socket.socket) and _original_port(key.fileobj, family) == probe_port:
                        return
            if time.monotonic() > deadline:
                raise ValidationError(
                    f"a connection to {_REDIRECTED[family]}:{probe_port} came to none of Envoy's ports"
                )
            time.sleep(_AGAIN_SECONDS)


@contextmanager
def _calling(kind: socket.AddressFamily, source: str, address: tuple[str, int]) -> Iterator[None]:
    """While a connection is being made; not from the redirected address itself, from which Envoy calls (IPT-003)."""
    with socket.socket(kind) as calling:
        calling.bind((source, 0))
        calling.setblocking(False)
        calling.connect_ex(address)
        yield


def _original_port(listening: socket.socket, family: Family) -> int:
    try:
        taken, _ = listening.accept()
    except OSError:
        return 0
    with taken:
        level, size = (socket.SOL_IP, 16) if family == 4 else (socket.IPPROTO_IPV6, 28)
        try:
            found = taken.getsockopt(level, _ORIGINAL_DESTINATION, size)
        except OSError:
            return 0  # came straight to this port
    port: int = struct.unpack_from("!2xH", found)[0]
    return port
