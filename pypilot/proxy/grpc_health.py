"""One `grpc.health.v1.Health/Check` over a connection that somebody else has made: a client of HTTP/2 that can no more.

gRPC's own client cannot say from which address it calls, and that is what keeps a probe from being captured. Only the
answer's message counts, so no header of the answer is decoded: a call that fails has no message.
"""

import socket
import struct
import time
from typing import Final

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_FRAME: Final = struct.Struct("!HBBBI")
_MESSAGE: Final = struct.Struct("!BI")
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY = 0x0, 0x1, 0x3, 0x4, 0x6, 0x7
_ACK, _END_STREAM, _END_HEADERS, _PADDED = 0x1, 0x1, 0x4, 0x8
_LARGEST: Final = 1 << 14
_SERVING: Final = 1
_STATUS_TAG: Final = 0x08


class HealthError(Exception):
    """The service did not say how it is; says why."""


def _literal(name: str, value: str) -> bytes:
    """A header that is not indexed (RFC 7541, 6.2.2), with lengths below 127."""
    out = b"\0"
    for text in (name.encode(), value.encode("latin-1", "replace")[:126]):
        out += bytes([len(text)]) + text
    return out


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    size = len(payload)
    return _FRAME.pack(size >> 8, size & 0xFF, kind, flags, stream) + payload


def _request(service: str, authority: str, user_agent: str) -> bytes:
    name = service.encode()
    length = bytes([len(name)]) if len(name) < 0x80 else bytes([len(name) & 0x7F | 0x80, len(name) >> 7])
    message = b"\x0a" + length + name if name else b""
    headers = {
        ":method": "POST",
        ":scheme": "http",
        ":path": "/grpc.health.v1.Health/Check",
        ":authority": authority,
        "content-type": "application/grpc",
        "te": "trailers",
        "user-agent": user_agent,
    }
    block = b"".join(_literal(name, value) for name, value in headers.items())
    data = _MESSAGE.pack(0, len(message)) + message
    return (
        _PREFACE
        + _frame(_SETTINGS, 0, 0)
        + _frame(_HEADERS, _END_HEADERS, 1, block)
        + _frame(_DATA, _END_STREAM, 1, data)
    )


class _Reader:
    def __init__(self, connection: socket.socket, deadline: float) -> None:
        self._connection = connection
        self._deadline = deadline

    def take(self, count: int) -> bytes:
        out = b""
        while len(out) < count:
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("timed out")
            self._connection.settimeout(left)
            if not (more := self._connection.recv(count - len(out))):
                raise HealthError("the connection was closed")
            out += more
        return out

    def frame(self) -> tuple[int, int, int, bytes]:
        high, low, kind, flags, stream = _FRAME.unpack(self.take(_FRAME.size))
        size = high << 8 | low
        if size > _LARGEST:
            raise HealthError("not HTTP/2")
        return kind, flags, stream & 0x7FFFFFFF, self.take(size)


def _status(message: bytes) -> int:
    """`HealthCheckResponse.status`; 0, which is UNKNOWN, if it is not there."""
    return message[1] if len(message) >= 2 and message[0] == _STATUS_TAG else 0


def is_serving(connection: socket.socket, service: str, authority: str, user_agent: str, timeout: float) -> bool:
    """Ask, and wait for the answer. The connection can be used for nothing else.

    Raises:
        HealthError: there is no answer, but an error.
        OSError: the connection is broken, or the time is over.
    """
    reader = _Reader(connection, time.monotonic() + timeout)
    connection.settimeout(timeout)
    connection.sendall(_request(service, authority, user_agent))
    body = b""
    while True:
        kind, flags, stream, payload = reader.frame()
        if kind == _SETTINGS and not flags & _ACK:
            connection.sendall(_frame(_SETTINGS, _ACK, 0))
        elif kind == _PING and not flags & _ACK:
            connection.sendall(_frame(_PING, _ACK, 0, payload))
        elif kind == _GOAWAY:
            raise HealthError("the server is going away")
        elif stream != 1:
            continue
        elif kind == _RESET:
            raise HealthError("the call was reset")
        elif kind == _DATA:
            body += payload[1 : len(payload) - payload[0]] if flags & _PADDED and payload else payload
            if len(body) >= _MESSAGE.size:
                packed, size = _MESSAGE.unpack_from(body)
                if packed:
                    raise HealthError("the answer is compressed")
                if len(body) >= _MESSAGE.size + size:
                    return _status(body[_MESSAGE.size : _MESSAGE.size + size]) == _SERVING
        if flags & _END_STREAM and kind in (_DATA, _HEADERS):
            raise HealthError("the server says nothing of its health")
