"""What listeners depend on beside the view: the parts of a proxy that change bytes, and no others."""

from typing import NamedTuple

from pypilot.compile.outbound_policy import OutboundPolicy, outbound_policy
from pypilot.compile.proxy_settings import ProxySettings, proxy_settings
from pypilot.compile.view import ProxyView, TracingIdentity, tracing_identity
from pypilot.kinds.base import Duration
from pypilot.wire.node import CertificateFiles, Proxy
from pypilot.world.model import WILDCARD_ADDRESS
from pypilot.world.reader import Reader

_LAST_PORT = 65535


def is_port(number: int) -> bool:
    """True for numbers that can be listened on."""
    return 0 < number <= _LAST_PORT


class TcpTraits(NamedTuple):
    """What chains of bytes depend on: alike for most proxies of a mesh."""

    istio_build: bool = True
    ipv4: bool = True
    ipv6: bool = False
    idle: Duration | None = None
    """IDLE_TIMEOUT of the node (NODE-016)."""
    dns_resolver: tuple[str, int] | None = None
    """Where an agent answers the proxy's DNS queries."""
    exact_balance: bool = False
    """Of outbound and gateway listeners (NODE-027)."""
    policy: OutboundPolicy = OutboundPolicy()
    """For sidecars: what becomes of connections to where nobody knows."""

    @property
    def wildcard(self) -> str:
        """The address that stands for all (LIS-017)."""
        return WILDCARD_ADDRESS if self.ipv4 else "::"


class HttpTraits(NamedTuple):
    """What connection managers depend on, the workload's tracing identity among it."""

    tcp: TcpTraits
    identity: TracingIdentity
    settings: ProxySettings = ProxySettings()
    http10: bool = False
    """HTTP/1.0 is accepted (NODE-017)."""
    inbound_exact_balance: bool = False
    """NODE-027."""
    credential_socket: bool = False
    """NODE-029."""
    server_files: CertificateFiles = CertificateFiles()
    """NODE-023."""
    certificates_over_ads: bool = False
    """Mesh certificates come over the proxy's own stream."""


def _idle(text: str) -> Duration | None:
    try:
        return Duration.parse(text) if text else None
    except ValueError:
        return None


def tcp_traits(reader: Reader, view: ProxyView, proxy: Proxy) -> TcpTraits:
    """The traits of a proxy for chains of bytes."""
    ipv4 = view.ipv4 or not view.ipv6
    idle, balance = _idle(proxy.idle_timeout), proxy.outbound_exact_balance
    policy = outbound_policy(reader, view) if view.is_sidecar else OutboundPolicy()
    return TcpTraits(view.istio_build, ipv4, view.ipv6, idle, proxy.dns_resolver, balance, policy)


def http_traits(reader: Reader, view: ProxyView, proxy: Proxy) -> HttpTraits:
    """The traits of a proxy for connection managers."""
    settings = reader.call(proxy_settings, proxy.proxy_config)
    return HttpTraits(
        tcp_traits(reader, view, proxy),
        tracing_identity(reader, proxy),
        settings,
        proxy.http10,
        proxy.inbound_exact_balance,
        proxy.credential_socket,
        proxy.server_files,
        view.certificates_over_ads,
    )
