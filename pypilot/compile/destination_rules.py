"""Which DestinationRules speak for a service, and what they say for one port and subset (DR-001…009, DR-022…026).

*Selection* is cheap and depends on who asks: a tuple of the references that were merged, the first of which names the
provenance (DR-010). *Policy* depends on the selection alone, so views that select alike share what is made of it.
Must not build Envoy messages.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, NamedTuple, TypeAlias

from pypilot.compile.naming import config_path, resolve_host
from pypilot.compile.view import ProxyView
from pypilot.kinds.base import Ref
from pypilot.kinds.destination_rule import (
    ClientTLSMode,
    ClientTLSSettings,
    ConnectionPoolSettings,
    DestinationRule,
    LoadBalancerSettings,
    OutlierDetection,
    ProxyProtocol,
    RetryBudget,
    Subset,
    TrafficPolicy,
    TunnelSettings,
)
from pypilot.kinds.mesh_config import DefaultTrafficPolicy
from pypilot.wire.node import Labels
from pypilot.world.model import MeshService
from pypilot.world.reader import Reader

NO_DEFAULT = DefaultTrafficPolicy()

Selection: TypeAlias = tuple[Ref, ...]
"""The merged rules, oldest first: hashable. Empty where no rule speaks."""

Pool = Literal["local", "exported", "private"]
"""The rules that a namespace's own proxies see; those it shows to others; those that it shows to itself alone."""


class _Group(NamedTuple):
    """Rules of one host that were merged (DR-005)."""

    export_to: frozenset[str]
    selector: Labels | None
    refs: Selection


class _Pool(NamedTuple):
    """The rules of one namespace by resolved host."""

    exact: Mapping[str, tuple[_Group, ...]]
    wildcard: Mapping[str, tuple[_Group, ...]]
    patterns: tuple[str, ...]
    """The wildcard hosts, most specific first."""


def _selector(rule: DestinationRule) -> Labels | None:
    selector = rule.spec.workload_selector
    return tuple(sorted((selector.match_labels or selector.labels).items())) if selector is not None else None


def _belongs(export_to: frozenset[str], namespace: str, pool: Pool, default: frozenset[str]) -> bool:
    if pool == "local":
        return not export_to or bool(export_to & {"*", ".", namespace})
    private = "." in default if not export_to else export_to in ({"."}, {namespace})
    return private == (pool == "private")


def _merge(groups: list[_Group], incoming: _Group) -> None:
    """DR-005: united with groups of equal (or narrower) visibility and no other selector, else kept apart.

    So a rule without selector that is private to its namespace joins the private one with a selector, as in Istio.
    """
    apart = True
    for i, group in enumerate(groups):
        # The last group that is looked at decides whether the rule also stands alone.
        apart = group.export_to != incoming.export_to
        if apart and not (group.export_to and incoming.export_to > group.export_to):
            continue
        if group.selector is not None and incoming.selector is not None and group.selector != incoming.selector:
            apart = True
            continue
        apart = apart and group.selector != incoming.selector
        groups[i] = group._replace(refs=group.refs + incoming.refs)
    if apart:
        groups.append(incoming)


def _pool(reader: Reader, namespace: str, pool: Pool) -> _Pool:
    """Index the rules of a namespace; rules with a workloadSelector come first (DR-009)."""
    hosts: dict[str, list[_Group]] = {}
    default = frozenset(reader.mesh().default_destination_rule_export_to)
    rules = reader.destination_rules(namespace)
    for rule in sorted(rules, key=lambda r: r.spec.workload_selector is None):
        selector = _selector(rule)
        # A rule with a selector is never shown to other namespaces (DR-008).
        export_to = frozenset({"."}) if selector is not None else frozenset(rule.spec.export_to)
        if _belongs(export_to, namespace, pool, default):
            host = resolve_host(rule.spec.host, namespace, reader.constants.domain)
            _merge(hosts.setdefault(host, []), _Group(export_to, selector, (rule.ref,)))
    wildcard = {h: tuple(g) for h, g in hosts.items() if h.startswith("*")}
    return _Pool(
        MappingProxyType({h: tuple(g) for h, g in hosts.items() if not h.startswith("*")}),
        MappingProxyType(wildcard),
        tuple(sorted(wildcard, key=lambda h: (-len(h), h))),
    )


def _match(pool: _Pool, hostname: str) -> tuple[_Group, ...]:
    """DR-001: the exact host, else the longest wildcard that covers it."""
    if hostname.startswith("*"):
        if hostname in pool.wildcard:
            return pool.wildcard[hostname]
        hostname = hostname[1:]
    elif hostname in pool.exact:
        return pool.exact[hostname]
    for pattern in pool.patterns:
        if hostname.endswith(pattern[1:]):
            return pool.wildcard[pattern]
    return ()


def _candidates(reader: Reader, client: str, service: MeshService) -> tuple[_Group, ...]:
    """DR-002, DR-004: the client's namespace, the service's, the root; the first with a match decides."""
    root = reader.mesh().root_namespace
    own: Pool = "private" if client == root else "local"
    if found := _match(reader.call(_pool, client, own), service.hostname):
        return found
    for owner in (service.namespace, root):
        groups = _match(reader.call(_pool, owner, "exported"), service.hostname)
        visible = tuple(g for g in groups if not g.export_to or g.export_to & {"*", client})
        if visible:
            return visible
    return ()


def destination_rule_for(reader: Reader, view: ProxyView, service: MeshService) -> Selection | None:
    """The rules for traffic that proxies of a view send to a service, or None (DR-002, DR-008)."""
    general: Selection | None = None
    for group in _candidates(reader, view.namespace, service):
        if group.selector is None:
            general = group.refs
        elif group.refs[0].namespace == view.namespace and view.matches(dict(group.selector)):
            return group.refs
    return general


def possible_rules(reader: Reader, namespace: str, service: MeshService) -> Selection:
    """All rules that hold for a service for some client of a namespace, those with a selector included."""
    return tuple(ref for group in _candidates(reader, namespace, service) for ref in group.refs)


def inbound_destination_rule(reader: Reader, namespace: str, service: MeshService) -> Selection | None:
    """The rules for traffic that a workload of a namespace receives as a service: selectors do not count (DR-080)."""
    general: Selection | None = None
    for group in _candidates(reader, namespace, service):
        if group.selector is None:
            general = group.refs
    return general


@dataclass(frozen=True, slots=True)
class EffectivePolicy:
    """What holds for one port of one subset; None where nothing is said."""

    load_balancer: LoadBalancerSettings | None = None
    connection_pool: ConnectionPoolSettings | None = None
    outlier_detection: OutlierDetection | None = None
    tls: ClientTLSSettings | None = None
    tunnel: TunnelSettings | None = None
    proxy_protocol: ProxyProtocol | None = None
    retry_budget: RetryBudget | None = None
    has_selector: bool = False
    """The rule has a workloadSelector: sidecars may then use its credentialName (DR-074)."""


def _rules(reader: Reader, selection: Selection | None) -> tuple[DestinationRule, ...]:
    found = (reader.destination_rule(ref) for ref in selection or ())
    return tuple(rule for rule in found if rule is not None)


def traffic_policy(reader: Reader, selection: Selection | None) -> TrafficPolicy | None:
    """The top-level policy: of the first merged rule that has one (DR-006)."""
    policies = (rule.spec.traffic_policy for rule in _rules(reader, selection))
    return next((policy for policy in policies if policy is not None), None)


def subsets_of(reader: Reader, selection: Selection | None) -> tuple[Subset, ...]:
    """The subsets of the merged rules, united by name; the first of a name wins (DR-006)."""
    subsets: dict[str, Subset] = {}
    for rule in _rules(reader, selection):
        for subset in rule.spec.subsets:
            subsets.setdefault(subset.name, subset)
    return tuple(subsets.values())


def subset_of(reader: Reader, selection: Selection | None, name: str) -> Subset | None:
    """The subset of that name, or None."""
    return next((s for s in subsets_of(reader, selection) if s.name == name), None) if name else None


def _at_port(policy: TrafficPolicy | None, port: int) -> tuple[EffectivePolicy | None, bool]:
    """One level's policy for a port, and whether a port entry replaced it whole (DR-022)."""
    if policy is None:
        return None, False
    for entry in policy.port_level_settings:
        if entry.port.number == port:
            replaced = EffectivePolicy(entry.load_balancer, entry.connection_pool, entry.outlier_detection, entry.tls)
            return replaced, True
    return EffectivePolicy(
        policy.load_balancer,
        policy.connection_pool,
        policy.outlier_detection,
        policy.tls,
        policy.tunnel,
        policy.proxy_protocol,
        policy.retry_budget,
    ), False


def _over(top: EffectivePolicy, own: EffectivePolicy, whole: bool) -> EffectivePolicy:
    """A subset's policy over the top-level one, block by block; a port entry brings all its four blocks (DR-023)."""
    return EffectivePolicy(
        own.load_balancer if whole else own.load_balancer or top.load_balancer,
        own.connection_pool if whole else own.connection_pool or top.connection_pool,
        own.outlier_detection if whole else own.outlier_detection or top.outlier_detection,
        own.tls if whole else own.tls or top.tls,
        own.tunnel or top.tunnel,
        own.proxy_protocol or top.proxy_protocol,
        own.retry_budget or top.retry_budget,
    )


def _with_default(top: EffectivePolicy | None, default: DefaultTrafficPolicy) -> EffectivePolicy | None:
    """MESH-029: beneath the rule, so a subset's port entry without a block has none of the mesh's either."""
    if default.connection_pool is None and default.outlier_detection is None:
        return top
    top = top or EffectivePolicy()
    return replace(
        top,
        connection_pool=top.connection_pool or default.connection_pool,
        outlier_detection=top.outlier_detection or default.outlier_detection,
    )


def effective_policy(
    reader: Reader,
    selection: Selection | None,
    port: int,
    subset: str = "",
    default: DefaultTrafficPolicy = NO_DEFAULT,
) -> EffectivePolicy:
    """The policy for a service port number, of a subset or (empty name) of the whole service (DR-022…024)."""
    rules = _rules(reader, selection)
    top, _ = _at_port(traffic_policy(reader, selection), port)
    top = _with_default(top, default)
    found = subset_of(reader, selection, subset)
    own, whole = _at_port(found.traffic_policy if found is not None else None, port)
    if own is None:
        merged = top or EffectivePolicy()
    else:
        merged = own if top is None else _over(top, own, whole)
    if not rules or rules[0].spec.workload_selector is None:
        return merged
    return replace(merged, has_selector=True)


def starts_passing_through(reader: Reader, selection: Selection | None, port: int, subset: str) -> bool:
    """True for a subset whose cluster is of original destinations whatever its own balancer says (DR-027).

    So say the subset's own level, whatever its port entries say, or the policy of the whole service.
    """
    found = subset_of(reader, selection, subset)
    if found is None:
        return False
    own = found.traffic_policy.load_balancer if found.traffic_policy is not None else None
    whole = effective_policy(reader, selection, port).load_balancer
    return any(balancer is not None and balancer.simple == "PASSTHROUGH" for balancer in (own, whole))


def endpoint_tls_mode(reader: Reader, selection: Selection | None, port: int, subset: str = "") -> ClientTLSMode | None:
    """The TLS mode that decides whether endpoints offer mutual TLS, None where no rule names one (EDS-005).

    Unlike in clusters, a port entry without `tls` lets the level's own `tls` stand.
    """
    found = subset_of(reader, selection, subset)
    if subset and found is None:
        return None
    for policy in (found.traffic_policy if found is not None else None, traffic_policy(reader, selection)):
        if policy is None:
            continue
        entry = next((p.tls for p in policy.port_level_settings if p.port.number == port and p.tls is not None), None)
        tls = entry or policy.tls
        if tls is not None:
            return tls.mode
    return None


def tunnel_settings(reader: Reader, selection: Selection | None, subset: str = "") -> TunnelSettings | None:
    """`tunnel` of the subset, else of the rule, whatever the port (DR-024)."""
    found = subset_of(reader, selection, subset)
    own = found.traffic_policy.tunnel if found is not None and found.traffic_policy is not None else None
    policy = traffic_policy(reader, selection)
    return own or (policy.tunnel if policy is not None else None)


def provenance(reader: Reader, selection: Selection | None) -> str:
    """The path of the rule that names a cluster's provenance, or the empty string (DR-010, DOC-002)."""
    rules = _rules(reader, selection)
    return config_path(rules[0].ref, rules[0].api_version) if rules else ""
