"""Istio MeshNetworks: which endpoints are in which network, and how to get there from others (MESH-045).

Not a Kubernetes kind: the text is the key `meshNetworks` of the mesh's ConfigMap. What cannot be used is never half
used. Pure.
"""

from collections.abc import Iterator, Mapping
from ipaddress import ip_network
from typing import Annotated

import msgspec

from pypilot.kinds.base import Finding, PortNumber, Spec, unsupported
from pypilot.kinds.field_findings import field_findings, field_path
from pypilot.kinds.names import is_address
from pypilot.kinds.parse import convert, locate, without_nulls
from pypilot.kinds.yaml_data import YamlError, load_document


class NetworkEndpoints(Spec, frozen=True):
    """`networks.ID.endpoints[]`: one of the two."""

    from_cidr: str = ""
    from_registry: str = ""
    """A cluster id."""


class NetworkGateway(Spec, frozen=True):
    """`networks.ID.gateways[]`: a service or an address."""

    port: PortNumber
    registry_service_name: str = ""
    """Hostname of a service of this mesh."""
    address: str = ""
    locality: Annotated[str, unsupported("endpoints behind a gateway have their own locality")] = ""


class Network(Spec, frozen=True):
    """`networks.ID`."""

    endpoints: tuple[NetworkEndpoints, ...] = ()
    gateways: tuple[NetworkGateway, ...] = ()


class MeshNetworks(Spec, frozen=True):
    """The networks by id."""

    networks: dict[str, Network] = {}


def _defects(networks: MeshNetworks) -> Iterator[Finding]:
    for name, network in networks.networks.items():
        for i, endpoints in enumerate(network.endpoints):
            at = f"networks.{name}.endpoints[{i}]"
            if bool(endpoints.from_cidr) == bool(endpoints.from_registry):
                yield Finding(at, "want one of fromCidr and fromRegistry")
            elif endpoints.from_cidr:
                try:
                    ip_network(endpoints.from_cidr, strict=False)
                except ValueError:
                    yield Finding(f"{at}.fromCidr", f"{endpoints.from_cidr!r} is not a CIDR")
        for i, gateway in enumerate(network.gateways):
            if bool(gateway.address) == bool(gateway.registry_service_name):
                yield Finding(f"networks.{name}.gateways[{i}]", "want one of address and registryServiceName")
            elif gateway.address and not is_address(gateway.address):
                message = (
                    f"{gateway.address!r} is a name: only clusters with DNS can use it, endpoints of others cannot"
                )
                yield Finding(f"networks.{name}.gateways[{i}].address", message, "warning", "no-effect")


def parse_mesh_networks(text: str) -> tuple[MeshNetworks | None, tuple[Finding, ...]]:
    """The networks and what is worth a warning; None and the errors if the text cannot be used."""
    try:
        data, _ = load_document(text)
    except YamlError as error:
        return None, (Finding("", f"not valid YAML: {error} (line {error.line + 1})", code="syntax"),)
    if data is None:
        return MeshNetworks(), ()
    if not isinstance(data, Mapping):
        return None, (Finding("", "want a mapping of MeshNetworks fields", code="syntax"),)
    data = without_nulls(data)
    warnings = tuple(field_findings(MeshNetworks, data))
    try:
        networks = convert(data, MeshNetworks)
    except msgspec.ValidationError as error:
        path, message = locate(error, data, MeshNetworks)
        return None, (*warnings, Finding(field_path(path), message))
    defects = tuple(_defects(networks))
    unusable = any(defect.severity == "error" for defect in defects)
    return (None if unusable else networks), (*warnings, *defects)
