"""What a Gateway refers to and does not find: the Secrets and ConfigMaps of its servers (SDS-001, GW-050).

They are looked for where the gateway's workloads are. Those are seldom known, but the Services in front of them are.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from pypilot.compile.credential_names import CA_SUFFIX, parse_resource_name, resource_name
from pypilot.kinds.base import Finding, Ref
from pypilot.kinds.gateway import IstioGateway, ServerTLSSettings
from pypilot.wire.node import Labels
from pypilot.world.reader import Reader

_TERMINATING = ("SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL")


def _selectors(reader: Reader) -> Mapping[Labels, frozenset[str]]:
    """The selectors of all Services, with the namespaces where they are."""
    found: dict[Labels, set[str]] = {}
    for key in reader.public_services():
        service = reader.service(key)
        if service is not None and service.kubernetes and service.selector:
            found.setdefault(service.selector, set()).add(service.namespace)
    return MappingProxyType({selector: frozenset(names) for selector, names in found.items()})


def _places(reader: Reader, selector: Labels) -> tuple[str, ...]:
    """The namespaces of the Services that can stand before workloads with these labels."""
    wanted = set(selector)
    found: set[str] = set()
    for other, namespaces in reader.call(_selectors).items():
        if wanted and (wanted <= set(other) or set(other) <= wanted):
            found |= namespaces
    return tuple(sorted(found))


def _is_there(reader: Reader, name: str, namespace: str) -> bool:
    """True if the credential exists for a workload in a namespace, or is none of Kubernetes'."""
    found = parse_resource_name(resource_name(name), namespace)
    if found is None:
        return True
    if found.kind == "ConfigMap":
        return reader.config_map(found.namespace, found.name) is not None
    if reader.secret(found.namespace, found.name) is not None:
        return True
    # The CA may be within the Secret of the certificate.
    return found.ca_only and reader.secret(found.namespace, found.name.removesuffix(CA_SUFFIX)) is not None


def _names(tls: ServerTLSSettings) -> Iterator[tuple[str, str]]:
    if tls.credential_names:
        yield from ((f"credentialNames[{i}]", name) for i, name in enumerate(tls.credential_names))
    elif tls.credential_name:
        yield "credentialName", tls.credential_name
    if tls.ca_cert_credential_name and tls.mode != "SIMPLE":
        yield "caCertCredentialName", tls.ca_cert_credential_name


def _findings(reader: Reader, gateway: IstioGateway) -> Iterator[Finding]:
    selector = tuple(sorted(gateway.spec.selector.items()))
    places = reader.call(_places, selector) or (gateway.namespace,)
    for i, server in enumerate(gateway.spec.servers):
        if server.tls is None or server.tls.mode not in _TERMINATING:
            continue
        for field, name in _names(server.tls):
            if not any(_is_there(reader, name, place) for place in places):
                where = f"namespace {places[0]}" if len(places) == 1 else f"any of the namespaces {', '.join(places)}"
                message = f"there is no credential {name!r} in {where}, where the gateway's workloads look for it"
                yield Finding(f"spec.servers[{i}].tls.{field}", message, "warning", "unknown-credential")


def gateway_advice(reader: Reader, ref: Ref) -> tuple[Finding, ...]:
    """The warnings about one Gateway."""
    gateway = reader.gateway(ref)
    return tuple(_findings(reader, gateway)) if gateway is not None else ()
