"""The application's own probes, asked on the kubelet's behalf (BOOT-008). Blocks: call it in a thread.

The kubelet cannot speak mutual TLS, so its probes come to the agent. They go on from Envoy's passthrough address, which
capture leaves alone (IPT-003).
"""

import http.client
import socket
import ssl
from collections.abc import Mapping
from typing import Any, Final

import grpc

_SOURCE: Final = "127.0.0.6"
_SERVING: Final = b"\x08\x01"
_GOOD: Final = range(200, 400)


def probe(said: Mapping[str, Any], address: str) -> tuple[int, str]:
    """Status and reason, for a probe as a container states it.

    Args:
        said: the probe: `httpGet`, `tcpSocket` or `grpc`, and `timeoutSeconds`.
        address: the pod's.
    """
    seconds = said.get("timeoutSeconds")
    timeout = float(seconds) if isinstance(seconds, int | float) and seconds > 0 else 1.0
    try:
        if isinstance(http_get := said.get("httpGet"), Mapping):
            return _http(http_get, address, timeout)
        if isinstance(tcp := said.get("tcpSocket"), Mapping):
            _connect(address, _port(tcp), timeout).close()
            return 200, ""
        if isinstance(call := said.get("grpc"), Mapping):
            return _grpc(call, address, timeout)
    except (OSError, http.client.HTTPException, ValueError) as error:
        return 500, str(error) or type(error).__name__
    return 400, "the probe says neither httpGet, tcpSocket nor grpc"


def _port(said: Mapping[str, Any]) -> int:
    port = int(said.get("port", 0))
    if not 0 < port < 65536:
        raise ValueError(f"{port} is not a port")
    return port


def _connect(address: str, port: int, timeout: float) -> socket.socket:
    source = (_SOURCE, 0) if ":" not in address else None
    return socket.create_connection((address, port), timeout, source)


class _Connection(http.client.HTTPConnection):
    def __init__(self, address: str, port: int, timeout: float, tls: bool) -> None:
        super().__init__(address, port, timeout=timeout)
        self._tls = tls

    def connect(self) -> None:
        plain = _connect(self.host, self.port, float(self.timeout or 1.0))
        if not self._tls:
            self.sock = plain
            return
        context = ssl.create_default_context()
        context.check_hostname = False  # as the kubelet, which checks no names either
        context.verify_mode = ssl.CERT_NONE
        self.sock = context.wrap_socket(plain)


def _http(said: Mapping[str, Any], address: str, timeout: float) -> tuple[int, str]:
    headers = {"User-Agent": "kube-probe/"}
    for header in said.get("httpHeaders") or ():
        headers[str(header["name"])] = str(header["value"])
    connection = _Connection(address, _port(said), timeout, str(said.get("scheme", "HTTP")).upper() == "HTTPS")
    try:
        connection.request("GET", str(said.get("path") or "/"), headers=headers)
        answer = connection.getresponse()
        answer.read(10 << 10)
        return answer.status, "" if answer.status in _GOOD else answer.reason
    finally:
        connection.close()


def _grpc(said: Mapping[str, Any], address: str, timeout: float) -> tuple[int, str]:
    """grpc.health.v1.Health/Check; both messages have one field."""
    service = str(said.get("service") or "").encode()
    request = b"\x0a" + bytes([len(service)]) + service if service else b""
    host = f"[{address}]" if ":" in address else address
    with grpc.insecure_channel(f"{host}:{_port(said)}") as channel:
        call: Any = channel.unary_unary("/grpc.health.v1.Health/Check")
        try:
            answer = call(request, timeout=timeout)
        except grpc.RpcError as error:
            return 500, str(error)
    return (200, "") if answer.startswith(_SERVING) else (503, "not serving")
