"""Istio AuthorizationPolicy (security.istio.io): who may do what (AZ rows)."""

import re
from typing import ClassVar, Literal

import msgspec

from pypilot.kinds.base import Object, Spec
from pypilot.kinds.peer_authentication import PodSelector

Action = Literal["ALLOW", "DENY", "AUDIT", "CUSTOM"]
_CLAIM = re.compile(r"\[([^\[\]]*)\]")


def claim_path(text: str) -> tuple[str, ...]:
    """`[a][b]` as (a, b); what else stands between the outer brackets is one name (AZ-020). Empty for none."""
    if re.fullmatch(rf"({_CLAIM.pattern})+", text):
        return tuple(_CLAIM.findall(text))
    return (text[1:-1],) if text.startswith("[") and text.endswith("]") and len(text) > 2 else ()


class TargetReference(Spec, frozen=True):
    """`targetRefs[]` of the security kinds."""

    kind: str
    """Kind of the target: Gateway, GatewayClass, Service or ServiceEntry."""
    name: str
    """Name of the target."""
    group: str = ""
    """API group of the target."""
    namespace: str = ""
    """Not to be set: targets are of the policy's own namespace."""


class Source(Spec, frozen=True):
    """`rules[].from[].source`: all that is said must hold."""

    principals: tuple[str, ...] = ()
    """Identities of the peer's certificate, without spiffe://."""
    not_principals: tuple[str, ...] = ()
    """Identities that the peer must not have."""
    request_principals: tuple[str, ...] = ()
    """ISSUER/SUBJECT of the request's token."""
    not_request_principals: tuple[str, ...] = ()
    """ISSUER/SUBJECT that the token must not have."""
    namespaces: tuple[str, ...] = ()
    """Namespaces of the peer."""
    not_namespaces: tuple[str, ...] = ()
    """Namespaces that the peer must not be of."""
    service_accounts: tuple[str, ...] = ()
    """Service accounts of the peer, NAME or NAMESPACE/NAME."""
    not_service_accounts: tuple[str, ...] = ()
    """Service accounts that the peer must not have."""
    trust_domains: tuple[str, ...] = ()
    """Trust domains of the peer."""
    not_trust_domains: tuple[str, ...] = ()
    """Trust domains that the peer must not be of."""
    ip_blocks: tuple[str, ...] = ()
    """Addresses or CIDRs of the connection's peer."""
    not_ip_blocks: tuple[str, ...] = ()
    """Addresses or CIDRs that the peer must not have."""
    remote_ip_blocks: tuple[str, ...] = ()
    """Addresses or CIDRs of the original client, by X-Forwarded-For or PROXY protocol."""
    not_remote_ip_blocks: tuple[str, ...] = ()
    """Addresses or CIDRs that the original client must not have."""


class From(Spec, frozen=True):
    """`rules[].from[]`."""

    source: Source | None = None
    """Where the request comes from."""


class RequestOperation(Spec, frozen=True):
    """`rules[].to[].operation`: all that is said must hold."""

    hosts: tuple[str, ...] = ()
    """Hosts of the request, in any case."""
    not_hosts: tuple[str, ...] = ()
    """Hosts that the request must not have."""
    ports: tuple[str, ...] = ()
    """Ports of the workload."""
    not_ports: tuple[str, ...] = ()
    """Ports of the workload that are not meant."""
    methods: tuple[str, ...] = ()
    """HTTP methods."""
    not_methods: tuple[str, ...] = ()
    """HTTP methods that are not meant."""
    paths: tuple[str, ...] = ()
    """Paths, with wildcards at an end or templates {*} and {**}."""
    not_paths: tuple[str, ...] = ()
    """Paths that are not meant."""


class To(Spec, frozen=True):
    """`rules[].to[]`."""

    operation: RequestOperation | None = None
    """What is asked for."""


class Condition(Spec, frozen=True):
    """`rules[].when[]`."""

    key: str
    """Name of an attribute, such as request.headers[NAME]."""
    values: tuple[str, ...] = ()
    """Values of which it must have one."""
    not_values: tuple[str, ...] = ()
    """Values of which it must have none."""


class Rule(Spec, frozen=True):
    """`rules[]`."""

    from_: tuple[From, ...] = msgspec.field(name="from", default=())
    """Sources of which one must hold; any without it."""
    to: tuple[To, ...] = ()
    """Operations of which one must hold; any without it."""
    when: tuple[Condition, ...] = ()
    """Conditions that must all hold."""


class Provider(Spec, frozen=True):
    """`provider`."""

    name: str = ""
    """Name of an extension provider of MeshConfig."""


class AuthorizationPolicySpec(Spec, frozen=True):
    """`spec`."""

    selector: PodSelector | None = None
    """Workloads that are meant; all of the namespace without it."""
    target_ref: TargetReference | None = None
    """The gateway, service or service entry that is meant."""
    target_refs: tuple[TargetReference, ...] = ()
    """The gateways, services or service entries that are meant."""
    rules: tuple[Rule, ...] = ()
    """Rules of which one must match; without any none ever does."""
    action: Action = "ALLOW"
    """What becomes of requests that match."""
    provider: Provider | None = None
    """Who decides, with action CUSTOM."""

    @property
    def targets(self) -> tuple[TargetReference, ...]:
        """Both forms of reference."""
        return self.target_refs or ((self.target_ref,) if self.target_ref is not None else ())


class AuthorizationPolicy(Object, frozen=True, kw_only=True):
    """An AuthorizationPolicy."""

    KIND: ClassVar[str] = "AuthorizationPolicy"

    spec: AuthorizationPolicySpec = AuthorizationPolicySpec()
    """Who may do what."""

    @property
    def is_dry_run(self) -> bool:
        """Only seen, not enforced (AZ-008)."""
        return self.metadata.annotations.get("istio.io/dry-run", "").lower() in ("true", "1", "t")
