"""Strategies: security policies as users write them, and requests at the edges of what these match.

The words are few, so that rules overlap, and requests are made of words that the rules nearly use.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.simulate.istio_authz import Token

Spec: TypeAlias = dict[str, Any]

DOMAINS = ("cluster.local", "old.td", "td-2")
PEERS = (
    "spiffe://cluster.local/ns/a/sa/x",
    "spiffe://cluster.local/ns/ab/sa/xy",
    "spiffe://cluster.local/ns/default/sa/x",
    "spiffe://old.td/ns/a/sa/x",
    "spiffe://other.td/ns/a/sa/x",
    "spiffe://oldxtd/ns/a/sa/x.y",
    "spiffe://cluster.local/ns/a/sa/xzy",
    "https://cluster.local/ns/a/sa/x",
)
PRINCIPALS = (
    "*", "cluster.local/ns/a/sa/x", "cluster.local/ns/a/*", "cluster.local/ns/a/sa/*", "*/sa/x", "*/ns/a/sa/x",
    "old.td/ns/a/sa/x", "other.td/ns/a/sa/x", "td-2/ns/a/sa/x", "*.td/ns/a/sa/x", "*/ns/a/sa/x.y", "cluster.local/*",
    "old*/ns/a/sa/x", "*x",
)  # fmt: skip
SOURCES = ("127.88.0.1", "127.88.0.2", "127.88.1.1", "127.0.0.1")
BLOCKS = ("127.88.0.1", "127.88.0.0/24", "127.88.0.2/32", "127.0.0.0/8", "10.0.0.0/8", "0.0.0.0/0", "::/0", "10.1.1.1")
FORWARDED = ("", "10.1.1.1", "10.1.1.1, 127.88.0.1", "10.1.1.1,192.168.0.1 ,127.88.0.2", "unknown", "10.1.1.1, bad")
PATHS = (
    "/a", "/a/*", "*/b", "*", "/A", "/a*", "/a/b/", "/a/{*}", "/a/{*}/c", "/a/{**}", "/{*}/b/{**}", "/{**}", "/{*}",
)  # fmt: skip
ASKED_PATHS = (
    "/", "/a", "/a/", "/a/b", "/a/b/", "/a/b/c", "/a//b", "/ab", "/A", "/x/b", "/a/b?q=/c", "/a/%62", "/a/../a/b",
    "/a/b=c", "/a/b%2fc", "/a/x;y/c", "/a?b", "//a", "/a/./b",
)  # fmt: skip
HOSTS = ("a.test", "*.test", "a.*", "*", "A.TEST", "b.a.test")
ASKED_HOSTS = ("a.test", "A.test", "b.a.test", "a.test:80", "x", "a.example", ".test")
METHODS = ("GET", "POST", "P*", "*T", "*", "get", "DELETE")
ASKED_METHODS = ("GET", "GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS")
VALUES = ("1", "1*", "*2", "*", "12", "a b")
ASKED_VALUES = ("1", "12", "2", "", "a b", "21", "A")
ISSUERS = ("https://i.test", "https://other.test")
REQUESTERS = (
    "*", "https://i.test/u", "https://i.test/*", "*/u", "https://i.test/v", "https:*", "*u", "https://other.test/*",
)  # fmt: skip
CLAIMS = ("groups", "roles][admin", "scope", "level", "name")
CLAIM_VALUES = ("g1", "g*", "*1", "*", "read", "write", "1", "true")
SERVER_NAMES = ("s.test", "*.test", "s.*", "*", "t.s.test")
ASKED_SERVER_NAMES = ("", "s.test", "t.s.test", "s.example")
PLACES = (
    ("header", "authorization"),
    ("param", "access_token"),
    ("header", "x-jwt"),
    ("param", "tok"),
    ("cookie", "tok"),
)


@dataclass(frozen=True, slots=True)
class Ask:
    """What a client does; not yet written as bytes."""

    tcp: bool
    tls: bool
    peer: str | None
    sni: str
    source: str
    host: str
    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    token: Token | None


@dataclass(frozen=True, slots=True)
class Example:
    """Policies, and what is asked under them."""

    policies: tuple[Spec, ...]
    authentications: tuple[Spec, ...]
    trusted: int
    """Proxies in front of the gateway that are trusted to name the client."""
    asks: tuple[Ask, ...]


def _some(values: tuple[str, ...], most: int = 3) -> SearchStrategy[list[str]]:
    return st.lists(st.sampled_from(values), min_size=1, max_size=most, unique=True)


def _fields(values: Mapping[str, tuple[str, ...]], most: int = 2) -> SearchStrategy[Spec]:
    """One or two fields, each as it is or turned around."""
    both = [*values, *(f"not{name[0].upper()}{name[1:]}" for name in values)]

    def filled(names: list[str]) -> SearchStrategy[Spec]:
        plain = {name: (name[3].lower() + name[4:]) if name.startswith("not") else name for name in names}
        return st.fixed_dictionaries({name: _some(values[plain[name]]) for name in names})

    return st.lists(st.sampled_from(both), min_size=1, max_size=most, unique=True).flatmap(filled)


_IDENTITY = {"principals": PRINCIPALS, "namespaces": ("a", "a*", "*b", "ab", "default", "*")}
_ACCOUNT = {"serviceAccounts": ("x", "a/x", "ab/xy", "default/x")}
_OTHER = {
    "requestPrincipals": REQUESTERS,
    "trustDomains": ("cluster.local", "old.td", "*.td", "*", "other.td", "o*"),
    "ipBlocks": BLOCKS,
    "remoteIpBlocks": BLOCKS,
}


def _sources() -> SearchStrategy[Spec]:
    """Accounts do not go together with principals and namespaces (VAL-007)."""
    return st.one_of(
        _fields({**_IDENTITY, **_OTHER}), _fields({**_IDENTITY, **_OTHER}), _fields({**_ACCOUNT, **_OTHER})
    )


def _conditions(ports: tuple[int, ...]) -> SearchStrategy[Spec]:
    keys: dict[str, tuple[str, ...]] = {
        "source.ip": BLOCKS,
        "remote.ip": BLOCKS,
        "source.namespace": ("a", "a*", "*"),
        "source.serviceAccount": ("x", "a/x"),
        "source.principal": PRINCIPALS,
        "source.trustDomain": ("old.td", "*.td", "*"),
        "request.auth.principal": REQUESTERS,
        "request.auth.audiences": ("aud1", "aud*", "*", "aud2"),
        "request.auth.presenter": ("app", "*"),
        "request.headers[x-a]": VALUES,
        "request.headers[X-B]": VALUES,
        "destination.ip": ("127.77.0.0/16", "127.77.0.1", "10.0.0.0/8"),
        "destination.port": tuple(map(str, ports)),
        "connection.sni": SERVER_NAMES,
        "experimental.envoy.filters.network.mysql_proxy[db.t]": ("select", "[select]"),
        **{f"request.auth.claims[{claim}]": CLAIM_VALUES for claim in CLAIMS},
    }

    def filled(key: str) -> SearchStrategy[Spec]:
        values = st.one_of(
            st.fixed_dictionaries({"values": _some(keys[key])}),
            st.fixed_dictionaries({"notValues": _some(keys[key])}),
            st.fixed_dictionaries({"values": _some(keys[key]), "notValues": _some(keys[key], 1)}),
        )
        return values.map(lambda found: {"key": key, **found})

    return st.sampled_from(tuple(keys)).flatmap(filled)


def _operation_words(ports: tuple[int, ...]) -> dict[str, tuple[str, ...]]:
    return {"hosts": HOSTS, "methods": METHODS, "paths": PATHS, "ports": tuple(map(str, ports))}


def _rules(ports: tuple[int, ...]) -> SearchStrategy[Spec]:
    operations = st.one_of(_fields(_operation_words(ports)), _fields({"paths": PATHS}))
    from_ = st.lists(_sources().map(lambda source: {"source": source}), min_size=1, max_size=2)
    to = st.lists(operations.map(lambda found: {"operation": found}), min_size=1, max_size=2)
    when = st.lists(_conditions(ports), min_size=1, max_size=2)
    return st.fixed_dictionaries({}, optional={"from": from_, "to": to, "when": when})


def _single(ports: tuple[int, ...]) -> SearchStrategy[list[Spec]]:
    """One policy that says one thing, on which everything depends."""
    source = _fields({**_IDENTITY, **_ACCOUNT, **_OTHER}, 1).map(lambda found: {"from": [{"source": found}]})
    operation = _fields(_operation_words(ports), 1).map(lambda found: {"to": [{"operation": found}]})
    condition = _conditions(ports).map(lambda found: {"when": [found]})
    metadata = {"namespace": "default", "annotations": {}}
    return st.tuples(st.sampled_from(("ALLOW", "DENY")), st.one_of(source, operation, condition, condition)).map(
        lambda said: [{"metadata": metadata, "spec": {"action": said[0], "rules": [said[1]]}}]
    )


def _selectors() -> SearchStrategy[Spec]:
    chosen = st.sampled_from(({}, {}, {}, {"app": "edge"}, {"app": "other"}))
    return chosen.map(lambda labels: {"selector": {"matchLabels": labels}} if labels else {})


def _policies(ports: tuple[int, ...]) -> SearchStrategy[Spec]:
    def made(parts: tuple[str, str, bool, Spec, list[Spec]]) -> Spec:
        namespace, action, dry, selector, rules = parts
        annotations = {"istio.io/dry-run": "true"} if dry else {}
        spec = {**selector, "action": action, **({"rules": rules} if rules or action == "DENY" else {})}
        return {"metadata": {"namespace": namespace, "annotations": annotations}, "spec": spec}

    return st.tuples(
        st.sampled_from(("default", "default", "default", "istio-system", "other")),
        st.sampled_from(("ALLOW", "ALLOW", "DENY", "DENY", "AUDIT")),
        st.sampled_from((False, False, False, False, True)),
        _selectors(),
        st.one_of(*[st.lists(_rules(ports), min_size=1, max_size=2)] * 9, st.just([])),
    ).map(made)


def _authentications(policies: list[Spec]) -> SearchStrategy[list[Spec]]:
    place = st.sampled_from((
        {}, {}, {},
        {"fromHeaders": [{"name": "x-jwt"}]},
        {"fromHeaders": [{"name": "x-jwt", "prefix": "Token "}]},
        {"fromParams": ["tok"]},
        {"fromCookies": ["tok"]},
    ))  # fmt: skip
    more = st.fixed_dictionaries(
        {}, optional={"audiences": _some(("aud1", "aud2"), 2), "forwardOriginalToken": st.booleans()}
    )

    def made(parts: tuple[str, Spec, list[tuple[str, Any, Any]]]) -> Spec:
        namespace, selector, rules = parts
        spec = {**selector, "jwtRules": [{"issuer": issuer, **where, **said} for issuer, where, said in rules]}
        return {"metadata": {"namespace": namespace}, "spec": spec}

    rules = st.lists(
        st.tuples(st.sampled_from(ISSUERS), place, more), min_size=1, max_size=2, unique_by=lambda rule: rule[0]
    )
    one = st.tuples(st.sampled_from(("default", "default", "istio-system")), _selectors(), rules).map(made)
    told = repr(policies)
    return st.lists(one, min_size=int("equestPrincipals" in told or "request.auth" in told), max_size=1)


def _tokens(authentications: list[Spec]) -> SearchStrategy[Token | None]:
    claims = st.sampled_from((
        (("groups", ["g1", "x"]), ("azp", "app")),
        (("groups", "g1"), ("scope", "read write")),
        (("roles", {"admin": ["g2", "g1"]}), ("level", 1)),
        (("roles", {"admin": "g1"}), ("name", "g"), ("level", True)),
        (),
    ))  # fmt: skip
    good = st.builds(
        Token,
        issuer=st.sampled_from((ISSUERS[0], *ISSUERS)),
        subject=st.sampled_from(("u", "u", "v")),
        audiences=st.sampled_from((("aud1",), ("aud1", "aud2"), ("other",), ())),
        claims=claims,
        place=st.sampled_from((PLACES[0], PLACES[0], *PLACES)),
    )
    bad = good.flatmap(
        lambda token: st.sampled_from((replace(token, expired=True), replace(token, forged=True),
                                       replace(token, issuer="https://nobody.test")))
    )  # fmt: skip
    return st.one_of(st.none(), good, good, good, bad) if authentications else st.one_of(st.none(), st.none(), good)


def _asks(authentications: list[Spec]) -> SearchStrategy[Ask]:
    headers = st.lists(
        st.tuples(st.sampled_from(("x-a", "x-a", "x-b")), st.sampled_from(ASKED_VALUES)), max_size=2
    ).flatmap(
        lambda own: st.sampled_from(FORWARDED).map(
            lambda told: (*own, ("x-forwarded-for", told)) if told else tuple(own)
        )
    )

    def secured(ask: Ask) -> Ask:
        return ask if ask.tls else replace(ask, peer=None, sni="")

    return st.builds(
        Ask,
        tcp=st.sampled_from((False, False, False, True)),
        tls=st.booleans(),
        peer=st.sampled_from((*PEERS, None)),
        sni=st.sampled_from(ASKED_SERVER_NAMES),
        source=st.sampled_from(SOURCES),
        host=st.sampled_from(ASKED_HOSTS),
        method=st.sampled_from(ASKED_METHODS),
        path=st.sampled_from(ASKED_PATHS),
        headers=headers,
        token=_tokens(authentications),
    ).map(secured)


def examples(ports: tuple[int, ...], count: int) -> SearchStrategy[Example]:
    """A policy that says one thing or up to three of any kind, perhaps tokens, and `count` clients."""

    several = st.lists(_policies(ports), min_size=1, max_size=3)
    policies = st.one_of(_single(ports), _single(ports), several)

    def asked(parts: tuple[list[Spec], list[Spec], int]) -> SearchStrategy[Example]:
        found, authentications, trusted = parts
        asks = st.lists(_asks(authentications), min_size=count, max_size=count)
        return asks.map(lambda made: Example(tuple(found), tuple(authentications), trusted, tuple(made)))

    return policies.flatmap(
        lambda found: st.tuples(st.just(found), _authentications(found), st.sampled_from((0, 1, 1, 2))).flatmap(asked)
    )
