"""What of the mesh a Sidecar lets a proxy see (SC-001…006). Without a Sidecar that is all that its namespace sees.

A scope is small: the namespace and the Sidecar that was selected. Proxies under one Sidecar share what is keyed by it.
Decides which hosts are imported; which services these are is decided in `services.py`. Must not know Envoy.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol

from pypilot.compile.routes.hosts import is_subset, is_wildcard, overlaps
from pypilot.compile.routes.virtual_services import resolved, virtual_services_for
from pypilot.compile.targets import workload_labels
from pypilot.kinds.base import Ref
from pypilot.kinds.sidecar import UNIX, IstioEgressListener, IstioIngressListener, Sidecar
from pypilot.kinds.virtual_service import MESH
from pypilot.wire.node import Proxy
from pypilot.world.reader import Reader

ALL = -1
"""In place of a listener's position: what all of them import."""
ANY_NAMESPACE = "*"
_EVERYTHING = (IstioEgressListener(hosts=("*/*",)),)


class Scope(NamedTuple):
    """What a class of proxies sees."""

    namespace: str
    sidecar: Ref | None = None
    """The Sidecar that limits it."""
    listener: int = ALL
    """Position of one of its egress listeners, each of which imports for itself."""

    @property
    def scope(self) -> "Scope":
        return self

    @property
    def whole(self) -> "Scope":
        """What all listeners import together."""
        return self if self.listener == ALL else self._replace(listener=ALL)


class Scoped(Protocol):
    """Whatever has a scope: a view, or the scope itself."""

    @property
    def scope(self) -> Scope: ...


# -- selection --------------------------------------------------------------------------------------------------------


def _matches(sidecar: Sidecar, labels: Mapping[str, str]) -> bool:
    selector = sidecar.spec.workload_selector
    return selector is None or all(labels.get(key) == value for key, value in selector.labels.items())


def sidecar_of(reader: Reader, proxy: Proxy) -> Ref | None:
    """The Sidecar of a proxy: one that selects it, its namespace's, the root namespace's; the oldest of each.

    SC-001, SC-017; none for gateways and waypoints (SC-018).
    """
    if proxy.type != "sidecar":
        return None
    own = sorted(reader.sidecars(proxy.namespace), key=lambda s: s.spec.workload_selector is None)
    if own:
        labels = dict(workload_labels(reader, proxy))
        for sidecar in own:
            if _matches(sidecar, labels):
                return sidecar.ref
    general = (s.ref for s in reader.sidecars(reader.mesh().root_namespace) if s.spec.workload_selector is None)
    return next(general, None)


def limits_sight(reader: Reader, ref: Ref | None) -> bool:
    """True if the Sidecar says anything about outbound traffic."""
    found = reader.sidecar(ref) if ref is not None else None
    return found is not None and bool(found.spec.egress or found.spec.outbound_traffic_policy)


# -- listeners --------------------------------------------------------------------------------------------------------


def egress_listeners(reader: Reader, scope: Scope) -> tuple[IstioEgressListener, ...]:
    """The egress listeners of a scope; one that imports everything where nobody gave any."""
    found = reader.sidecar(scope.sidecar) if scope.sidecar is not None else None
    return (found.spec.egress if found is not None else ()) or _EVERYTHING


def ingress_listeners(reader: Reader, ref: Ref | None) -> tuple[IstioIngressListener, ...]:
    """The ingress listeners of a Sidecar (SC-013)."""
    found = reader.sidecar(ref) if ref is not None else None
    return found.spec.ingress if found is not None else ()


def is_explicit_proxy(listener: IstioEgressListener) -> bool:
    """True for a listener whose clients name the host to it, whatever the port (SC-011)."""
    return listener.port is not None and listener.port.spoken == "HTTP_PROXY"


def wanted_port(listener: IstioEgressListener) -> int:
    """The port that a service must have to be imported by a listener; 0 for any (SC-007)."""
    return listener.port.number if listener.port is not None and not is_explicit_proxy(listener) else 0


def is_unix(bind: str) -> bool:
    """True for the bind of a listener at a Unix socket."""
    return bind.startswith(UNIX)


# -- hosts ------------------------------------------------------------------------------------------------------------


class Hosts(NamedTuple):
    """What a listener imports from one namespace, or from any."""

    exact: frozenset[str] = frozenset()
    wildcard: tuple[str, ...] = ()
    excluded: tuple[str, ...] = ()

    def selects(self, hostname: str) -> bool:
        """True if a service of that name is imported, exclusions apart."""
        return hostname in self.exact or any(is_subset(hostname, pattern) for pattern in self.wildcard)

    def selects_rules_for(self, host: str, strictly: bool) -> bool:
        """True if a VirtualService's host is imported; not `strictly`: one that covers an import, too (SC-006)."""
        if self.selects(host):
            return True
        covering = not strictly and (is_wildcard(host) or bool(self.wildcard))
        return covering and any(overlaps(host, one) for one in (*self.exact, *self.wildcard))

    def excludes(self, hostname: str) -> bool:
        """True for what `~` keeps out (SC-003)."""
        return any(is_subset(hostname, pattern) for pattern in self.excluded)


class Imports(NamedTuple):
    """What a listener imports, by namespace."""

    by_namespace: Mapping[str, Hosts]

    def of(self, namespace: str) -> Iterable[Hosts]:
        """The hosts that count for a namespace: first those that name it."""
        found = (self.by_namespace.get(namespace), self.by_namespace.get(ANY_NAMESPACE))
        return [hosts for hosts in found if hosts is not None]

    def selecting(self, namespace: str, hostname: str) -> Hosts | None:
        """By which hosts a service is imported; None if it is not."""
        hosts = self.of(namespace)
        if any(h.excludes(hostname) for h in hosts):
            return None
        return next((h for h in hosts if h.selects(hostname)), None)

    def selects_rules(self, namespace: str, hosts: Iterable[str], strictly: bool) -> bool:
        """True if a VirtualService of a namespace with these hosts is imported (SC-006)."""
        sources = self.of(namespace)
        return any(
            source.selects_rules_for(host, strictly) and not any(s.excludes(host) for s in sources)
            for source in sources
            for host in hosts
        )


def _imports(reader: Reader, scope: Scope) -> Imports:
    exact: dict[str, set[str]] = {}
    wildcard: dict[str, list[str]] = {}
    excluded: dict[str, list[str]] = {}
    for text in egress_listeners(reader, scope)[scope.listener].hosts:
        namespace, _, name = text.partition("/")
        leaves_out = namespace.startswith("~")
        namespace = namespace.removeprefix("~") or ANY_NAMESPACE
        if namespace == ".":
            namespace = scope.namespace
        if leaves_out:
            excluded.setdefault(namespace, []).append(name)
        elif is_wildcard(name):
            wildcard.setdefault(namespace, []).append(name)
        else:
            exact.setdefault(namespace, set()).add(name)
    found = {
        n: Hosts(frozenset(exact.get(n, ())), tuple(wildcard.get(n, ())), tuple(excluded.get(n, ())))
        for n in {*exact, *wildcard, *excluded}
    }
    return Imports(MappingProxyType(found))


def imports_of(reader: Reader, scope: Scope) -> Imports:
    """What one listener of a scope imports (SC-002, SC-003)."""
    return reader.call(_imports, scope)


# -- VirtualServices --------------------------------------------------------------------------------------------------


class _Bound(NamedTuple):
    hosts: tuple[str, ...]
    from_gateway_api: bool


def _bound(reader: Reader, ref: Ref) -> _Bound:
    """The hosts of a VirtualService: a change of its rules ends here."""
    found = resolved(reader, ref)
    return _Bound(found.hosts, found.semantics == "gateway") if found is not None else _Bound((), False)


def _rules(reader: Reader, scope: Scope) -> tuple[Ref, ...]:
    known = virtual_services_for(reader, scope.namespace, MESH)
    if scope.listener == ALL:
        listeners = range(len(egress_listeners(reader, scope)))
        seen = {ref for i in listeners for ref in reader.call(_rules, scope._replace(listener=i))}
        return tuple(ref for ref in known if ref in seen)
    imports, chosen = imports_of(reader, scope), []
    for ref in known:
        bound = reader.call(_bound, ref)
        if imports.selects_rules(ref.namespace, bound.hosts, bound.from_gateway_api):
            chosen.append(ref)
    return tuple(chosen)


def mesh_rules(reader: Reader, scoped: Scoped) -> tuple[Ref, ...]:
    """The VirtualServices for `mesh` that are seen, in order of precedence (VS-005, SC-006)."""
    scope = scoped.scope
    if scope.sidecar is None:
        return virtual_services_for(reader, scope.namespace, MESH)
    return reader.call(_rules, scope)
