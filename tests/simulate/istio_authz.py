"""What AuthorizationPolicies and RequestAuthentications say about a request, read straight from the API's text.

The other half of the property that meaning is kept. Reads plain documents; shares nothing with the compiler. Where the
API is silent or Istio means something else, it says what Istio does (behaviour IDs). Must not know Envoy's messages.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import ip_address, ip_network
from typing import Any, Literal, TypeAlias

Document: TypeAlias = Mapping[str, Any]
Answer: TypeAlias = Literal["allowed", "denied", "unauthenticated"]

_DELIMITED = ("scope", "permission")


@dataclass(frozen=True, slots=True)
class Token:
    """A token by what it says, not by how it is written."""

    issuer: str
    subject: str = "u"
    audiences: tuple[str, ...] = ()
    claims: tuple[tuple[str, Any], ...] = ()
    expired: bool = False
    forged: bool = False
    """Signed by nobody whose key is known."""
    place: tuple[str, str] = ("header", "authorization")
    """Where the request shows it."""

    def payload(self) -> dict[str, Any]:
        """The claims as Istio sees them: those that are lists by standard are split (RA-007)."""
        found = {"iss": self.issuer, "sub": self.subject, "aud": list(self.audiences), **dict(self.claims)}
        return {k: v.split(" ") if k in _DELIMITED and isinstance(v, str) else v for k, v in found.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request, or a connection of bytes, with all that policies can ask about it."""

    tcp: bool = False
    peer: str | None = None
    """The URI name of the client's certificate."""
    source: str = "127.0.0.1"
    remote: str = "127.0.0.1"
    destination: str = "127.0.0.1"
    port: int = 80
    sni: str = ""
    host: str = ""
    method: str = "GET"
    path: str = "/"
    """Normalised, without the query."""
    headers: tuple[tuple[str, str], ...] = ()
    token: Token | None = None
    is_preflight: bool = False


@dataclass(frozen=True, slots=True)
class Mesh:
    """What policies depend on beside themselves."""

    domains: tuple[str, ...] = ("cluster.local",)
    """The trust domain, then its aliases."""
    root: str = "istio-system"


@dataclass(frozen=True, slots=True)
class Workload:
    """Whom policies are for."""

    namespace: str = "default"
    labels: Mapping[str, str] = field(default_factory=dict)


# -- values -----------------------------------------------------------------------------------------------------------


def _text(pattern: str, value: str) -> bool:
    """Presence, suffix, prefix, exact (AZ-011)."""
    if pattern == "*":
        return value != ""
    if pattern.startswith("*"):
        return value.endswith(pattern[1:])
    if pattern.endswith("*"):
        return value.startswith(pattern[:-1])
    return value == pattern


def _template(pattern: str, path: str) -> bool:
    """`{*}` is a segment that is not empty, `{**}` any number of them at the end (AZ-019)."""
    wanted, found = pattern.split("/"), path.split("/")
    for i, segment in enumerate(wanted):
        if segment == "{**}":
            return len(found) > i
        if i >= len(found) or (not found[i] if segment == "{*}" else found[i] != segment):
            return False
    return len(found) == len(wanted)


def _path(pattern: str, path: str) -> bool:
    return _template(pattern, path) if "{" in pattern else _text(pattern, path)


def _address(block: str, address: str) -> bool:
    return ip_address(address) in ip_network(block, strict=False)


def _covers(pattern: str, domain: str) -> bool:
    return pattern != "*" and _text(pattern, domain)


def _principal(pattern: str, peer: str, mesh: Mesh) -> bool:
    """Identities without `spiffe://` (AZ-012), the mesh's own under each of its trust domains (AZ-025)."""
    domain, _, rest = pattern.partition("/")
    patterns = [pattern]
    if pattern.count("/") == 4 and (domain == "cluster.local" or any(_covers(domain, d) for d in mesh.domains)):
        patterns = [pattern if domain.startswith("*") and _covers(domain, d) else f"{d}/{rest}" for d in mesh.domains]
    return any(_one_principal(one, peer) for one in patterns)


def _one_principal(pattern: str, peer: str) -> bool:
    if pattern == "*":
        return peer != ""
    if not peer.startswith("spiffe://"):
        return False
    name = peer.removeprefix("spiffe://")
    return _text(pattern, name)


def _namespace(pattern: str, peer: str) -> bool:
    """Whatever stands before or behind: Istio looks for `/ns/NAMESPACE/` anywhere (AZ-013)."""
    anywhere = ".*".join(map(re.escape, pattern.split("*")))
    return re.fullmatch(f".*/ns/{anywhere}/.*", peer) is not None


def _account(value: str, peer: str, own: str) -> bool:
    namespace, account = value.split("/") if "/" in value else (own, value)
    name = peer.removeprefix("spiffe://").split("/")
    return peer.startswith("spiffe://") and name[1:] == ["ns", namespace, "sa", account]


def _trust_domain(pattern: str, peer: str, mesh: Mesh) -> bool:
    if not peer.startswith("spiffe://"):
        return False
    domain = peer.removeprefix("spiffe://").partition("/")[0]
    wanted = mesh.domains if pattern in mesh.domains else (pattern,)
    return any(re.fullmatch(re.escape(one).replace(r"\*", "[^/]*"), domain) is not None for one in wanted)


def _requester(pattern: str, token: Token | None) -> bool:
    """ISSUER/SUBJECT, split at the last slash (AZ-016)."""
    if token is None or not token.issuer or not token.subject:
        return False
    issuer, slash, subject = pattern.rpartition("/")
    if pattern == "*":
        return True
    if not slash:
        if pattern.startswith("*"):
            return _text(pattern, token.subject)
        return pattern.endswith("*") and _text(pattern, token.issuer)
    if pattern.startswith("*"):
        return _text(issuer, token.issuer) and token.subject == subject
    return token.issuer == issuer and _text(subject, token.subject)


def _claim(keys: Sequence[str], pattern: str, token: Token | None) -> bool:
    value: Any = token.payload() if token is not None else None
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    values = value if isinstance(value, list) else [value]
    return any(isinstance(one, str) and _text(pattern, one) for one in values)


# -- rules ------------------------------------------------------------------------------------------------------------

_Holds: TypeAlias = Callable[[str], bool]
"""Does one value match?"""


@dataclass(frozen=True, slots=True)
class _Reading:
    """One policy read for one request."""

    asked: Asked
    mesh: Mesh
    namespace: str
    allows: bool

    def source(self) -> dict[str, tuple[_Holds, bool]]:
        """Field -> what one of its values means, and whether it speaks of HTTP."""
        a, peer = self.asked, self.asked.peer or ""
        return {
            "principals": (lambda v: _principal(v, peer, self.mesh), False),
            "requestPrincipals": (lambda v: _requester(v, a.token), True),
            "namespaces": (lambda v: _namespace(v, peer), False),
            "serviceAccounts": (lambda v: _account(v, peer, self.namespace), False),
            "trustDomains": (lambda v: _trust_domain(v, peer, self.mesh), False),
            "ipBlocks": (lambda v: _address(v, a.source), False),
            "remoteIpBlocks": (lambda v: _address(v, a.remote), False),
        }

    def operation(self) -> dict[str, tuple[_Holds, bool]]:
        a = self.asked
        return {
            "hosts": (lambda v: _text(v.lower(), a.host.lower()), True),
            "methods": (lambda v: _text(v, a.method), True),
            "paths": (lambda v: _path(v, a.path), True),
            "ports": (lambda v: v == str(a.port), False),
        }

    def condition(self, key: str) -> tuple[_Holds, bool]:
        a, source = self.asked, self.source()
        name, _, rest = key.partition("[")
        keys = rest.rstrip("]").split("][")
        plain: dict[str, tuple[_Holds, bool]] = {
            "source.ip": source["ipBlocks"],
            "remote.ip": source["remoteIpBlocks"],
            "source.namespace": source["namespaces"],
            "source.serviceAccount": source["serviceAccounts"],
            "source.principal": source["principals"],
            "source.trustDomain": source["trustDomains"],
            "request.auth.principal": source["requestPrincipals"],
            "request.auth.audiences": (lambda v: _claim(["aud"], v, a.token), True),
            "request.auth.presenter": (lambda v: _claim(["azp"], v, a.token), True),
            "request.auth.claims": (lambda v: _claim(keys, v, a.token), True),
            "request.headers": (lambda v: self._header(keys[0], v), True),
            "destination.ip": (lambda v: _address(v, a.destination), False),
            "destination.port": (lambda v: v == str(a.port), False),
            "connection.sni": (lambda v: _text(v, a.sni), False),
        }
        return plain.get(name, (lambda _: False, False))  # nobody fills in metadata of other filters

    def _header(self, name: str, pattern: str) -> bool:
        """`*` means that it is there, even if it is empty."""
        values = [value for key, value in self.asked.headers if key == name.lower()]
        return bool(values) if pattern == "*" else any(_text(pattern, value) for value in values)

    def _said(self, wanted: Document, meanings: Mapping[str, tuple[_Holds, bool]]) -> bool:
        for name, (holds, http) in meanings.items():
            for values, want in ((wanted.get(name), True), (wanted.get(f"not{name[0].upper()}{name[1:]}"), False)):
                if values and not (http and self.asked.tcp) and any(map(holds, values)) != want:
                    return False
        return True

    def _when(self, condition: Document) -> bool:
        meaning = self.condition(condition["key"])
        return self._said({"v": condition.get("values"), "notV": condition.get("notValues")}, {"v": meaning})

    def _speaks_of_http(self, rule: Document) -> bool:
        parts = [(s["source"], self.source()) for s in rule.get("from", ())]
        parts += [(t["operation"], self.operation()) for t in rule.get("to", ())]
        for part, meanings in parts:
            http = {name.lower() for name, (_, is_http) in meanings.items() if is_http}
            if any(name.lower() in http or name.removeprefix("not").lower() in http for name in part):
                return True
        return any(self.condition(c["key"])[1] for c in rule.get("when", ()))

    def holds(self, rule: Document) -> bool:
        """One source, one operation, and all conditions (AZ-009, AZ-010)."""
        if self.asked.tcp and self.allows and self._speaks_of_http(rule):
            return False  # AZ-026
        sources, operations = rule.get("from"), rule.get("to")
        return (
            (not sources or any(self._said(one["source"], self.source()) for one in sources))
            and (not operations or any(self._said(one["operation"], self.operation()) for one in operations))
            and all(self._when(condition) for condition in rule.get("when", ()))
        )


# -- policies ---------------------------------------------------------------------------------------------------------


def _for(documents: Iterable[Document], workload: Workload, mesh: Mesh) -> list[Document]:
    """Those of the root namespace and of the workload's own that mean its labels (AZ-001)."""
    found = []
    for document in documents:
        wanted = document["spec"].get("selector", {}).get("matchLabels", {})
        is_here = document["metadata"]["namespace"] in (mesh.root, workload.namespace)
        if is_here and wanted.items() <= dict(workload.labels).items():
            found.append(document)
    return found


def _matches(document: Document, asked: Asked, mesh: Mesh) -> bool:
    spec = document["spec"]
    allows = spec.get("action", "ALLOW") == "ALLOW"
    reading = _Reading(asked, mesh, document["metadata"]["namespace"], allows)
    return any(reading.holds(rule) for rule in spec.get("rules", ()))


def authorized(policies: Iterable[Document], workload: Workload, mesh: Mesh, asked: Asked) -> bool:
    """DENY first; then one ALLOW must match if there is any (AZ-002). AUDIT and dry runs change nothing."""
    enforced = [p for p in _for(policies, workload, mesh) if not p["metadata"].get("annotations")]
    by_action: dict[str, list[Document]] = {}
    for policy in enforced:
        by_action.setdefault(policy["spec"].get("action", "ALLOW"), []).append(policy)
    if any(_matches(policy, asked, mesh) for policy in by_action.get("DENY", ())):
        return False
    allowing = by_action.get("ALLOW", [])
    return not allowing or any(_matches(policy, asked, mesh) for policy in allowing)


def _places(rule: Document) -> list[tuple[str, str]]:
    found = [("header", one["name"]) for one in rule.get("fromHeaders", ())]
    found += [("param", name) for name in rule.get("fromParams", ())]
    found += [("cookie", name) for name in rule.get("fromCookies", ())]
    return found or [("header", "authorization"), ("param", "access_token")]


def _is_good(token: Token, rule: Document) -> bool:
    audiences = rule.get("audiences", ())
    known = token.issuer == rule["issuer"] and not token.expired and not token.forged
    return known and (not audiences or bool({*audiences} & {*token.audiences}))


def interpret(
    policies: Iterable[Document],
    authentications: Iterable[Document],
    workload: Workload,
    mesh: Mesh,
    asked: Asked,
    seen_without_token: Callable[[Asked], Asked] = lambda asked: asked,
) -> Answer:
    """What becomes of a request.

    Args:
        seen_without_token: the request as policies see it once a token that is not to be forwarded is gone.
    """
    rules = [rule for one in _for(authentications, workload, mesh) for rule in one["spec"].get("jwtRules", ())]
    token: Token | None = None
    if rules and not asked.tcp and not asked.is_preflight:
        here = [rule for rule in rules if asked.token is not None and asked.token.place in _places(rule)]
        if here and asked.token is not None:
            good = [rule for rule in here if _is_good(asked.token, rule)]
            if not good:
                return "unauthenticated"
            token = asked.token
            if not good[0].get("forwardOriginalToken"):
                asked = seen_without_token(asked)
    asked = replace(asked, token=token)
    return "allowed" if authorized(policies, workload, mesh, asked) else "denied"
