"""Strategies: VirtualServices as users write them, and requests at the edges of what these match.

The words are few, so that matches overlap, and requests are made of the words that the rules use.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.simulate.model import Request

Spec: TypeAlias = dict[str, Any]

PATHS = ("/", "/a", "/a/", "/a/b", "/ab", "/A", "/a.b", "/b/a", "/b")
PATH_EXPRESSIONS = ("/a.*", "/(a|b)/[^/]+", "/a/?", ".*", "/[ab]+", "/a\\.b", "(?i)/a", "/(a)(/b)?")
NAMES = ("x-a", "x-b", "x-c")
VALUES = ("1", "12", "a", "A", "up")
VALUE_EXPRESSIONS = ("1.*", "[a-z]+", "1|12", ".*")
QUERY = ("q", "r")
ORIGINS = ("https://a.test", "https://b.test")
METHODS = ("GET", "POST", "OPTIONS", "HEAD", "DELETE")


@dataclass(frozen=True, slots=True)
class Words:
    """What VirtualServices may speak of."""

    hosts: tuple[str, ...]
    destinations: tuple[Mapping[str, Any], ...]
    ports: tuple[int, ...]
    gateways: tuple[str, ...] = ()
    """Empty for the mesh."""


def _optional(keys: Mapping[str, SearchStrategy[Any]]) -> SearchStrategy[Spec]:
    return st.fixed_dictionaries({}, optional=dict(keys))


def _string(values: Sequence[str], expressions: Sequence[str]) -> SearchStrategy[Spec]:
    return st.one_of(
        st.fixed_dictionaries({"exact": st.sampled_from(values)}),
        st.fixed_dictionaries({"prefix": st.sampled_from(values)}),
        st.fixed_dictionaries({"regex": st.sampled_from(expressions)}),
    )


def _header_match() -> SearchStrategy[Spec]:
    return st.one_of(_string(VALUES, VALUE_EXPRESSIONS), st.just({}))


def _map(names: Sequence[str], values: SearchStrategy[Any], most: int = 2) -> SearchStrategy[Spec]:
    return st.dictionaries(st.sampled_from(names), values, min_size=1, max_size=most)


def matches(words: Words) -> SearchStrategy[Spec]:
    """`http[].match[]`."""
    fields = {
        "uri": _string(PATHS, PATH_EXPRESSIONS),
        "ignoreUriCase": st.booleans(),
        "method": _string(METHODS[:3], ("G.*", "GET|POST")),
        "headers": _map(NAMES, _header_match()),
        "withoutHeaders": _map(NAMES, _header_match()),
        "queryParams": _map(QUERY, st.one_of(_string(("1", "12"), ("1.*", "1")), st.just({}))),
        "authority": _string(tuple(h for h in words.hosts if "*" not in h), ("a.*", ".*test", ".*:.*")),
        "scheme": _string(("http", "https"), ("http.*",)),
        "port": st.sampled_from(words.ports),
    }
    chosen = st.lists(st.sampled_from(("uri", "uri", "uri", *fields)), min_size=1, max_size=3, unique=True)
    return chosen.flatmap(lambda names: st.fixed_dictionaries({name: fields[name] for name in names}))


def _operations() -> SearchStrategy[Spec]:
    values = st.sampled_from((*VALUES, "", "%REQ(x-b)%", "%REQ(x-z?x-a)%:%REQ(x-a):1%", "50%%"))
    return _optional(
        {
            "set": _map(NAMES, values),
            "add": _map(NAMES, values),
            "remove": st.lists(st.sampled_from(NAMES), min_size=1, max_size=2, unique=True),
        }
    )


def _host_operations() -> SearchStrategy[Spec]:
    return st.fixed_dictionaries({"set": st.fixed_dictionaries({"host": st.sampled_from(("h1.test", "h2.test"))})})


def _headers() -> SearchStrategy[Spec]:
    request = st.one_of(_operations(), _operations(), _host_operations())
    return _optional({"request": request, "response": _operations()})


def _destinations(words: Words) -> SearchStrategy[list[Spec]]:
    target = st.sampled_from(words.destinations)
    weighted = st.fixed_dictionaries(
        {"destination": target, "weight": st.integers(1, 5)}, optional={"headers": _headers()}
    )
    return st.one_of(
        st.lists(st.fixed_dictionaries({"destination": target}), min_size=1, max_size=1),
        st.lists(
            st.fixed_dictionaries({"destination": target}, optional={"headers": _headers()}), min_size=1, max_size=1
        ),
        st.lists(weighted, min_size=2, max_size=3),
    )


def _rewrites() -> SearchStrategy[Spec]:
    paths = _optional(
        {"uri": st.sampled_from(("/", "/new", "/new/")), "authority": st.sampled_from(("w.test", "w.test:1"))}
    )
    expression = st.fixed_dictionaries(
        {
            "match": st.sampled_from(("/a", "a", "(a)(/?)", "b*", "^/(.*)$")),
            "rewrite": st.sampled_from(("/n", r"/\1n", r"x\0", "")),
        }
    )
    return st.one_of(paths, st.fixed_dictionaries({"uriRegexRewrite": expression}))


def _redirects() -> SearchStrategy[Spec]:
    return _optional(
        {
            "uri": st.sampled_from(("/new", "/new?z=1")),
            "authority": st.sampled_from(("r.test", "r.test:1")),
            "port": st.sampled_from((80, 443, 8080)),
            "scheme": st.sampled_from(("http", "https")),
            "redirectCode": st.sampled_from((301, 302, 303, 307, 308)),
        }
    )


def _direct_responses() -> SearchStrategy[Spec]:
    body = st.one_of(st.fixed_dictionaries({"string": st.sampled_from(("", "text"))}), st.just({"bytes": "AAEC"}))
    return st.fixed_dictionaries({"status": st.sampled_from((200, 201, 403, 404, 503))}, optional={"body": body})


def _faults() -> SearchStrategy[Spec]:
    whole = st.just({"value": 100})
    status = st.fixed_dictionaries({"httpStatus": st.sampled_from((400, 503, 555)), "percentage": whole})
    grpc = st.fixed_dictionaries({"grpcStatus": st.sampled_from(("UNAVAILABLE", "NOT_FOUND")), "percentage": whole})
    none = st.just({"httpStatus": 500, "percentage": {"value": 0}})
    return st.fixed_dictionaries({"abort": st.one_of(status, grpc, none)})


def _cors() -> SearchStrategy[Spec]:
    origins = st.lists(_string(ORIGINS, ("https://.*",)), min_size=1, max_size=2)
    return st.fixed_dictionaries(
        {"allowOrigins": origins},
        optional={
            "allowMethods": st.just(["GET", "POST"]),
            "allowHeaders": st.just(["x-a"]),
            "exposeHeaders": st.just(["x-b", "x-c"]),
            "maxAge": st.just("24h"),
            "allowCredentials": st.booleans(),
            "unmatchedPreflights": st.sampled_from(("UNSPECIFIED", "FORWARD", "IGNORE")),
        },
    )


def rules(words: Words) -> SearchStrategy[Spec]:
    """`http[]`."""
    match = {"match": st.lists(matches(words), min_size=1, max_size=2)}
    common = {"headers": _headers(), "corsPolicy": _cors(), "fault": _faults()}
    to = {"rewrite": _rewrites(), "timeout": st.just("30s"), **common}
    forward = st.fixed_dictionaries({"route": _destinations(words)}, optional={**match, **to})
    redirect = st.fixed_dictionaries({"redirect": _redirects()}, optional={**match, **common})
    direct = st.fixed_dictionaries({"directResponse": _direct_responses()}, optional={**match, **common})
    return st.one_of(forward, forward, forward, redirect, direct)


def specs(words: Words) -> SearchStrategy[Spec]:
    """`spec` of a VirtualService."""
    fields: dict[str, SearchStrategy[Any]] = {
        "hosts": st.lists(st.sampled_from(words.hosts), min_size=1, max_size=3, unique=True),
        "http": st.lists(rules(words), min_size=1, max_size=4),
    }
    if words.gateways:
        fields["gateways"] = st.lists(st.sampled_from(words.gateways), min_size=1, unique=True)
    return st.fixed_dictionaries(fields)


# -- requests ---------------------------------------------------------------------------------------------------------


def _all(value: Any, key: str) -> Iterator[Any]:
    """Every value of a key, wherever it stands."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name == key:
                yield inner
            yield from _all(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from _all(inner, key)


def _edges(path: str) -> Iterator[str]:
    """The path, and its neighbours."""
    yield from (path, f"{path}/", f"{path}b", path[:-1] or "/", path.swapcase(), f"{path}/../{path[1:]}", f"/{path}")


def _paths(found: Sequence[Spec]) -> tuple[str, ...]:
    uris = [uri.get("exact") or uri.get("prefix") for uri in _all(list(found), "uri") if isinstance(uri, Mapping)]
    pool = dict.fromkeys(edge for uri in uris if uri for edge in _edges(uri))
    return (*pool, *PATHS)


def _hosts(found: Iterable[Spec], words: Words) -> tuple[str, ...]:
    pool: dict[str, None] = {}
    for spec in found:
        for host in spec["hosts"]:
            name = host.replace("*", "x") if host != "*" else "any.test"
            pool.update(
                dict.fromkeys(
                    (name, name, name, name.upper(), f"{name}:{words.ports[0]}", f"y.{name}", host.lstrip("*."))
                )
            )
    return tuple(host for host in (*pool, "unknown.test") if host)


def requests(found: Sequence[Spec], words: Words) -> SearchStrategy[tuple[int, Request]]:
    """A port of the proxy, and a request to it."""
    query = st.sampled_from(("", "", "", "?", "?q=1", "?q=12&r", "?r=1&q", "?q=2&q=1"))
    path = st.tuples(st.sampled_from(_paths(found)), query).map("".join)
    own = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(("", *VALUES))), max_size=3)
    special = st.sampled_from((
        (), (), (), (),
        (("origin", ORIGINS[0]),),
        (("origin", ORIGINS[1]), ("access-control-request-method", "GET")),
        (("origin", "https://c.test"), ("access-control-request-method", "GET")),
        (("content-type", "application/grpc"),),
    ))  # fmt: skip
    headers = st.tuples(own, special).map(lambda parts: (*parts[0], *parts[1]))
    request = st.builds(
        Request,
        authority=st.sampled_from(_hosts(found, words)),
        path=path,
        method=st.sampled_from(("GET", *METHODS)),
        headers=headers,
    )
    return st.tuples(st.sampled_from(words.ports), request)


@dataclass(frozen=True, slots=True)
class Example:
    """VirtualServices, oldest first, and requests."""

    specs: tuple[Spec, ...]
    requests: tuple[tuple[int, Request], ...]


def examples(words: Words, most_services: int = 3, count: int = 8) -> SearchStrategy[Example]:
    """VirtualServices with `count` requests."""

    def with_requests(found: list[Spec]) -> SearchStrategy[Example]:
        asked = st.lists(requests(found, words), min_size=count, max_size=count)
        return asked.map(lambda sent: Example(tuple(found), tuple(sent)))

    return st.lists(specs(words), min_size=1, max_size=most_services).flatmap(with_requests)
