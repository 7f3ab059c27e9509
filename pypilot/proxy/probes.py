"""The application's own probes, asked on the kubelet's behalf (BOOT-008). Blocks: call it in a thread.

The kubelet cannot speak mutual TLS, so its probes come to the agent. They go on from Envoy's passthrough address, which
capture leaves alone (IPT-003).
"""

import errno
import http.client
import re
import socket
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from pypilot.proxy.grpc_health import HealthError, is_serving

PATH: Final = re.compile(r"/(app-health|app-lifecycle)/[^/]+/(livez|readyz|startupz|prestopz|poststartz)")
_SOURCE_V4, _SOURCE_V6 = "127.0.0.6", "::6"
_REDIRECTS: Final = range(300, 400)
_MOST_REDIRECTS: Final = 10
_BODY: Final = 10 << 10
_ACTIONS: Final = ("httpGet", "tcpSocket", "grpc")
_OWN_HEADERS: Final = frozenset({"host", "connection", "content-length", "transfer-encoding"})


def defect(path: str, said: Any) -> str:
    """What is wrong with a probe, before anybody asks for it; empty if nothing is."""
    if not PATH.fullmatch(path):
        return "want /app-health/CONTAINER/livez, readyz or startupz"
    actions = [a for a in _ACTIONS if isinstance(said, Mapping) and said.get(a) is not None]
    if len(actions) != 1:
        return f"want one of {', '.join(_ACTIONS)}"
    action = said[actions[0]]
    port = action.get("port") if isinstance(action, Mapping) else None
    if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 1 << 16:
        return f"{actions[0]}.port: {port!r} is not a port"
    return ""


@dataclass(frozen=True, slots=True)
class Target:
    """Where the application is."""

    address: str
    status_port: int = 0
    """The agent's own, which callers name in `Host`."""
    from_passthrough: bool = True
    """Call from the address that capture leaves alone; false outside of a pod."""


def probe(said: Mapping[str, Any], target: Target, headers: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Status and body, for a probe as a container states it.

    Args:
        said: the probe: `httpGet`, `tcpSocket` or `grpc`, and `timeoutSeconds`.
        target: where it goes.
        headers: those with which the kubelet asked; they are the probe's.
    """
    seconds = said.get("timeoutSeconds")
    timeout = float(seconds) if isinstance(seconds, int | float) and seconds > 0 else 1.0
    given = headers or {}
    try:
        if isinstance(http_get := said.get("httpGet"), Mapping):
            return _http(http_get, target, timeout, given)
        if isinstance(tcp := said.get("tcpSocket"), Mapping):
            _connect(target, target.address, _port(tcp), timeout).close()
            return 200, ""
        if isinstance(call := said.get("grpc"), Mapping):
            return _grpc(call, target, timeout, given)
    except (OSError, http.client.HTTPException, ValueError, HealthError) as error:
        return 500, str(error) or type(error).__name__
    return 400, "the probe says neither httpGet, tcpSocket nor grpc"


def _port(said: Mapping[str, Any]) -> int:
    port = int(said.get("port", 0))
    if not 0 < port < 65536:
        raise ValueError(f"{port} is not a port")
    return port


def _connect(target: Target, host: str, port: int, timeout: float) -> socket.socket:
    if not target.from_passthrough or host == "localhost":
        return socket.create_connection((host, port), timeout)
    is_v6 = ":" in host
    try:
        return socket.create_connection((host, port), timeout, (_SOURCE_V6 if is_v6 else _SOURCE_V4, 0))
    except OSError as error:
        if not is_v6 or error.errno != errno.EADDRNOTAVAIL:
            raise
        return socket.create_connection((host, port), timeout)  # nobody gave loopback that address: no capture


class _Connection(http.client.HTTPConnection):
    def __init__(self, target: Target, host: str, port: int, timeout: float, tls: bool) -> None:
        super().__init__(host, port, timeout=timeout)
        self._target = target
        self._tls = tls

    def connect(self) -> None:
        plain = _connect(self._target, self.host, self.port, float(self.timeout or 1.0))
        if not self._tls:
            self.sock = plain
            return
        context = ssl.create_default_context()
        context.check_hostname = False  # as the kubelet, which checks no names either
        context.verify_mode = ssl.CERT_NONE
        self.sock = context.wrap_socket(plain)


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _host(headers: Mapping[str, str], target: Target, port: int) -> str:
    """The kubelet's `Host`; where it names the agent's port, the application's stands for it."""
    said = next((v for k, v in headers.items() if k.lower() == "host"), "")
    name, _, number = said.rpartition(":")
    if name and number == str(target.status_port):
        return f"{name}:{port}"
    return said or f"{_bracketed(target.address)}:{port}"


def _http(said: Mapping[str, Any], target: Target, timeout: float, headers: Mapping[str, str]) -> tuple[int, str]:
    deadline = time.monotonic() + timeout
    port = _port(said)
    scheme = "https" if str(said.get("scheme", "")).upper() == "HTTPS" else "http"
    path = str(said.get("path") or "/")
    url = f"{scheme}://{_bracketed(target.address)}:{port}/{path.removeprefix('/')}"
    sent = {name: value for name, value in headers.items() if name.lower() not in _OWN_HEADERS}
    sent |= {"Host": _host(headers, target, port), "Connection": "close"}
    for _ in range(_MOST_REDIRECTS):
        status, body, location = _get(url, target, deadline, sent)
        if status not in _REDIRECTS:
            return status, body
        following = urljoin(url, location)
        if not location or urlsplit(following).hostname != target.address:
            return 200, ""  # led elsewhere, it is alive
        url = following
        if urlsplit(location).netloc:
            sent["Host"] = urlsplit(location).netloc
    return 500, f"more than {_MOST_REDIRECTS} redirects"


def _get(url: str, target: Target, deadline: float, headers: Mapping[str, str]) -> tuple[int, str, str]:
    """Status, the beginning of the body, and `Location`."""
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    connection = _Connection(target, parts.hostname or target.address, parts.port or (443 if tls else 80), left, tls)
    try:
        connection.putrequest(
            "GET", parts.path + (f"?{parts.query}" if parts.query else ""), skip_host=True, skip_accept_encoding=True
        )
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        answer = connection.getresponse()
        return answer.status, answer.read(_BODY).decode(errors="replace"), answer.getheader("Location", "")
    finally:
        connection.close()


def _grpc(said: Mapping[str, Any], target: Target, timeout: float, headers: Mapping[str, str]) -> tuple[int, str]:
    port = _port(said)
    agent = next((v for k, v in headers.items() if k.lower() == "user-agent"), "kube-probe/")
    with _connect(target, target.address, port, timeout) as connection:
        authority = f"{_bracketed(target.address)}:{port}"
        serving = is_serving(connection, str(said.get("service") or ""), authority, agent, timeout)
    return (200, "") if serving else (500, "not serving")
