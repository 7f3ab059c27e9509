"""The few facts of a view on which a cluster can depend. Views with equal traits share cluster bytes."""

from typing import NamedTuple

from pypilot.compile.proxy_settings import proxy_settings
from pypilot.compile.view import ProxyView
from pypilot.settings import CompliancePolicy
from pypilot.wire.node import CertificateFiles, Proxy, ProxyType
from pypilot.world.reader import Reader


class Traits(NamedTuple):
    """What kind of proxy a cluster is for."""

    type: ProxyType = "sidecar"
    istio_build: bool = True
    """Istio's own filters and SDS names may be used."""
    mesh_tls: bool = True
    """The proxy can fetch the mesh certificate `default` and the trust bundle `ROOTCA`."""
    hbone: bool = False
    ipv4: bool = True
    ipv6: bool = False
    credential_socket: bool = False
    """A socket beside the proxy serves credentials (NODE-029)."""
    client_files: CertificateFiles = CertificateFiles()
    """NODE-023."""
    certificates_over_ads: bool = False
    """Mesh certificates come over the proxy's own stream, not from an agent."""
    keeps_case: bool = False
    """Header names of HTTP/1 go on as they were written (PC-016)."""
    compliance: CompliancePolicy = "none"
    """DR-079."""

    @property
    def is_router(self) -> bool:
        return self.type == "router"


def traits_of(reader: Reader, view: ProxyView, proxy: Proxy) -> Traits:
    """The traits of a proxy."""
    keeps_case = reader.call(proxy_settings, proxy.proxy_config).headers.preserve_case
    return Traits(
        view.type,
        view.istio_build,
        view.mesh_tls,
        view.hbone,
        view.ipv4,
        view.ipv6,
        view.credential_socket,
        view.client_files,
        view.certificates_over_ads,
        keeps_case,
        reader.constants.compliance,
    )
