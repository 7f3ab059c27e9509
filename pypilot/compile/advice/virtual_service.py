"""What a VirtualService refers to and does not find: hosts, subsets, ports, gateways, delegates (IST0101, 0112, 0132).

Looked at as the clients do: sidecars of the VirtualService's namespace, and gateways in the namespaces of the Gateways
that it is bound to. What one of them finds is found.
"""

from collections.abc import Iterator
from typing import NamedTuple

from pypilot.compile.advice.conflicts import host_conflicts
from pypilot.compile.advice.hosts import is_covered, known_service
from pypilot.compile.destination_rules import possible_rules, subset_of
from pypilot.compile.naming import resolve_host
from pypilot.compile.routes.hosts import for_namespace, intersection
from pypilot.compile.routes.virtual_services import semantics_of
from pypilot.kinds.base import Finding, Ref
from pypilot.kinds.gateway import IstioGateway
from pypilot.kinds.virtual_service import MESH, Destination, VirtualService, gateway_name
from pypilot.world.model import MeshService, Resolution
from pypilot.world.reader import Reader


class _Use(NamedTuple):
    """A destination and where it stands."""

    path: str
    destination: Destination


def _destinations(service: VirtualService) -> Iterator[_Use]:
    for i, http in enumerate(service.spec.http):
        for j, route in enumerate(http.route):
            yield _Use(f"spec.http[{i}].route[{j}].destination", route.destination)
        if http.mirror is not None:
            yield _Use(f"spec.http[{i}].mirror", http.mirror)
        for j, mirror in enumerate(http.mirrors):
            yield _Use(f"spec.http[{i}].mirrors[{j}].destination", mirror.destination)
    for i, tls in enumerate(service.spec.tls):
        for j, split in enumerate(tls.route):
            yield _Use(f"spec.tls[{i}].route[{j}].destination", split.destination)
    for i, tcp in enumerate(service.spec.tcp):
        for j, split in enumerate(tcp.route):
            yield _Use(f"spec.tcp[{i}].route[{j}].destination", split.destination)


def _has_subset(reader: Reader, namespace: str, host: str, name: str) -> bool:
    found = known_service(reader, namespace, host)
    return found is not None and subset_of(reader, possible_rules(reader, namespace, found), name) is not None


class _Checks:
    """The findings in one VirtualService."""

    def __init__(self, reader: Reader, service: VirtualService) -> None:
        self._reader = reader
        self._service = service
        self._namespace = service.namespace
        self._hosts = {self._absolute(host) for host in service.spec.hosts}
        names = [gateway_name(name, service.namespace) for name in service.spec.gateways or (MESH,)]
        self._in_mesh = MESH in names
        # A delegate is used where its roots are bound: that may be anywhere, so its own namespace has to do.
        others = {name.partition("/")[0] for name in names if name != MESH}
        self._clients = (service.namespace, *sorted(others - {service.namespace}))

    def _absolute(self, host: str) -> str:
        return resolve_host(host, self._namespace, self._reader.constants.domain)

    def all(self) -> Iterator[Finding]:
        for use in _destinations(self._service):
            yield from self._destination(use)
        for i, name in enumerate(self._service.spec.gateways):
            yield from self._gateway(f"spec.gateways[{i}]", name)
        for i, route in enumerate(self._service.spec.http):
            if route.delegate is not None:
                namespace = route.delegate.namespace or self._namespace
                yield from self._delegate(
                    f"spec.http[{i}].delegate", Ref("VirtualService", namespace, route.delegate.name)
                )
        if self._in_mesh:
            yield from host_conflicts(self._reader, self._service)

    def _destination(self, use: _Use) -> Iterator[Finding]:
        host = self._absolute(use.destination.host)
        found = [s for c in self._clients if (s := known_service(self._reader, c, host)) is not None]
        if not found:
            if not any(is_covered(self._reader, c, host) for c in self._clients):
                message = f"{use.destination.host!r} is no service that namespace {self._namespace} can see"
                if host != use.destination.host:
                    message += f", it stands for {host}"
                yield Finding(f"{use.path}.host", message, "warning", "unknown-host")
            return
        subset = use.destination.subset
        if subset and not any(self._reader.call(_has_subset, c, host, subset) for c in self._clients):
            message = f"no DestinationRule for {host} defines the subset {subset!r}"
            yield Finding(f"{use.path}.subset", message, "warning", "unknown-subset")
        if found[0].resolution is not Resolution.ALIAS:
            yield from self._port(use, host, found[0])

    def _port(self, use: _Use, host: str, found: MeshService) -> Iterator[Finding]:
        number = use.destination.port.number
        numbers = ", ".join(str(port.number) for port in found.ports)
        if number and found.port(number) is None:
            message = f"{host} has no port {number}, only {numbers or 'none'}"
            yield Finding(f"{use.path}.port.number", message, "warning", "unknown-port")
        elif not number and len(found.ports) > 1 and not (self._in_mesh and host in self._hosts):
            # Where it is the very host that was called, the port that was called is meant (SEEN-018).
            message = f"{host} has the ports {numbers}: say which one is meant"
            yield Finding(f"{use.path}.port", message, "warning", "unknown-port")

    def _gateway(self, path: str, name: str) -> Iterator[Finding]:
        absolute = gateway_name(name, self._namespace)
        if absolute == MESH:
            return
        namespace, _, short = absolute.partition("/")
        gateway = self._reader.gateway(Ref(IstioGateway.KIND, namespace, short))
        if gateway is None:
            yield Finding(path, f"there is no Gateway {absolute}", "warning", "unknown-gateway")
        elif not any(self._serves(gateway, server.hosts) for server in gateway.spec.servers):
            hosts = ", ".join(self._service.spec.hosts)
            message = f"no server of Gateway {absolute} serves {hosts} for namespace {self._namespace}"
            yield Finding(path, message, "warning", "host-not-in-gateway")

    def _serves(self, gateway: IstioGateway, hosts: tuple[str, ...]) -> bool:
        own = [f"{gateway.namespace}{host[1:]}" if host.startswith("./") else host for host in hosts]
        return bool(intersection(for_namespace(own, self._namespace), tuple(self._hosts)))

    def _delegate(self, path: str, ref: Ref) -> Iterator[Finding]:
        found = self._reader.virtual_service(ref)
        if found is None:
            yield Finding(path, f"there is no {ref}; the rule is left out", "warning", "unknown-delegate")
        elif found.spec.hosts:
            message = f"{ref} has hosts, so it is no delegate; the rule is left out"
            yield Finding(path, message, "warning", "unknown-delegate")
        else:
            shown_to = found.spec.export_to or self._reader.mesh().default_virtual_service_export_to
            own = "." in shown_to and ref.namespace == self._namespace
            if not own and not {"*", self._namespace} & set(shown_to):
                message = f"{ref} is not exported to namespace {self._namespace}; the rule is left out"
                yield Finding(path, message, "warning", "unknown-delegate")


def virtual_service_advice(reader: Reader, ref: Ref) -> tuple[Finding, ...]:
    """The warnings about one VirtualService."""
    service = reader.virtual_service(ref)
    if service is None or semantics_of(service):  # those that were translated are nobody's to mend
        return ()
    return tuple(_Checks(reader, service).all())
