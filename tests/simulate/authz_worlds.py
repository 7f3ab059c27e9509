"""A gateway under generated security policies: compiled, and asked by clients with certificates and tokens."""

import base64
import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.hashes import SHA256

from pypilot.cli.demo.bootstrap import NodeIdentity
from pypilot.compile.generators import GENERATORS
from pypilot.engine.memo import Memo
from pypilot.kinds.base import Object
from pypilot.kinds.mesh_config import MeshConfig
from pypilot.wire.node import Proxy, parse_node
from pypilot.wire.references import held_by
from pypilot.world.advance import advance
from pypilot.world.delta import Delta
from pypilot.world.world import World
from tests.simulate.generate_authz import DOMAINS, Ask, Example, Spec
from tests.simulate.istio_authz import Asked, Mesh, Token, Workload
from tests.simulate.model import Connection, Headers, Request
from tests.simulate.path import normalized
from tests.simulate.resources import Resources
from tests.world.objects import make

MESH = Mesh(DOMAINS)
WORKLOAD = Workload("default", {"app": "edge"})
HTTP_CLUSTER, TCP_CLUSTER = "outbound|80||up.test", "outbound|81||up.test"
HELD, FORGED = ec.derive_private_key(7, ec.SECP256R1()), ec.derive_private_key(8, ec.SECP256R1())
_LATER, _BEFORE = 4102444800, 978307200
_INSPECTOR = "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"
_TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def key_set() -> str:
    """The public half as a JSON Web Key Set."""
    numbers = HELD.public_key().public_numbers()
    axes = {"x": _encoded(numbers.x.to_bytes(32, "big")), "y": _encoded(numbers.y.to_bytes(32, "big"))}
    return json.dumps({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": "held", **axes}]})


def encoded(token: Token) -> str:
    """The token, signed with ES256."""
    claims = {"iss": token.issuer, "sub": token.subject, "exp": _BEFORE if token.expired else _LATER}
    claims |= {"aud": list(token.audiences), **dict(token.claims)}
    parts = ({"alg": "ES256", "kid": "held", "typ": "JWT"}, claims)
    signed = ".".join(_encoded(json.dumps(part).encode()) for part in parts)
    der = (FORGED if token.forged else HELD).sign(signed.encode(), ec.ECDSA(SHA256()))
    r, s = utils.decode_dss_signature(der)
    return f"{signed}.{_encoded(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


# -- what is compiled -------------------------------------------------------------------------------------------------


def base_world(ports: tuple[int, int]) -> World:
    """A gateway with a port for HTTP and one for bytes, each to a service of its own."""
    found: list[Object] = []
    for name, port, protocol in (("web", ports[0], "HTTP"), ("raw", ports[1], "TCP")):
        server = {"port": {"number": port, "name": name, "protocol": protocol}, "hosts": ["*"]}
        found.append(make("Gateway", name, spec={"selector": {"app": "edge"}, "servers": [server]}))
        destination = {"host": "up.test", "port": {"number": 80 if name == "web" else 81}}
        rules = {"http" if name == "web" else "tcp": [{"route": [{"destination": destination}]}]}
        found.append(make("VirtualService", name, spec={"hosts": ["*"], "gateways": [name], **rules}))
    entry_ports = [
        {"number": 80, "name": "http", "protocol": "HTTP"},
        {"number": 81, "name": "tcp", "protocol": "TCP"},
    ]
    endpoints = [{"address": "127.0.0.1"}]
    spec = {"hosts": ["up.test"], "ports": entry_ports, "resolution": "STATIC", "endpoints": endpoints}
    found.append(make("ServiceEntry", "up", spec=spec))
    mesh = MeshConfig(trust_domain=DOMAINS[0], trust_domain_aliases=DOMAINS[1:])
    return advance(World(), Delta(upserts=tuple(found), mesh=mesh))


def proxy(trusted: int) -> Proxy:
    """The gateway, behind some proxies that it trusts."""
    node = NodeIdentity("router", "10.1.0.1", "edge", "default", {"app": "edge"}).node()
    topology = {"gatewayTopology": {"numTrustedProxies": trusted}} if trusted else {}
    return parse_node({**node, "metadata": {**node["metadata"], "PROXY_CONFIG": topology}})


def _objects(example: Example) -> list[Object]:
    found = []
    for kind, documents in (
        ("AuthorizationPolicy", example.policies),
        ("RequestAuthentication", example.authentications),
    ):
        for i, document in enumerate(documents):
            spec, metadata = document["spec"], document["metadata"]
            if "jwtRules" in spec:
                spec = {**spec, "jwtRules": [_with_keys(rule) for rule in spec["jwtRules"]]}
            annotations = metadata.get("annotations", {})
            found.append(make(kind, f"p{i}", metadata["namespace"], spec=spec, annotations=annotations))
    return found


def _with_keys(rule: Spec) -> Spec:
    return {**rule, "jwks": key_set()}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a gateway listens."""

    address: str
    ports: tuple[int, int]
    """For HTTP and for bytes."""
    tls_ports: tuple[int, int]

    def port(self, ask: Ask) -> int:
        return (self.tls_ports if ask.tls else self.ports)[ask.tcp]


def compiled(world: World, example: Example, place: Place, tls: Mapping[str, Any]) -> Resources:
    """What the gateway gets, its listeners at that place, and each once more below TLS.

    Args:
        tls: the `DownstreamTlsContext`.
    """
    memo = Memo(advance(world, Delta(upserts=tuple(_objects(example)))))
    who = proxy(example.trusted)
    held = Resources.held(held_by({url: memo.root(made, who) for url, made in GENERATORS.items()}))
    listeners = {}
    for plain, secured in zip(place.ports, place.tls_ports, strict=True):
        listener = json.loads(json.dumps(held.listeners[f"0.0.0.0_{plain}"], default=dict))
        (chain,) = listener["filter_chains"]
        manager = chain["filters"][-1]["typed_config"]
        if "rds" in manager:
            manager["route_config"] = held.routes[manager.pop("rds")["route_config_name"]]
        for port in (plain, secured):
            one = copy.deepcopy(listener)
            one["name"] = f"{place.address}_{port}"
            one["address"] = {"socket_address": {"address": place.address, "port_value": port}}
            if port == secured:
                one["listener_filters"] = [{"name": "tls_inspector", "typed_config": {"@type": _INSPECTOR}}]
                one["filter_chains"][0]["transport_socket"] = {
                    "name": "tls",
                    "typed_config": {"@type": _TLS, **tls},
                }
            listeners[one["name"]] = one
    return replace(held, listeners=listeners)


# -- what is asked ----------------------------------------------------------------------------------------------------


def connection(ask: Ask, place: Place) -> Connection:
    return Connection(
        destination=place.address,
        port=place.port(ask),
        source=ask.source,
        tls=ask.tls,
        server_name=ask.sni,
        application="tcp" if ask.tcp else "http/1.1",
        peer=(ask.peer,) if ask.peer else (),
    )


def _shown(token: Token, headers: Headers, path: str, prefix: str) -> tuple[Headers, str]:
    text, (kind, name) = encoded(token), token.place
    if kind == "header":
        return (*headers, (name, f"Bearer {text}" if name == "authorization" else f"{prefix}{text}")), path
    if kind == "cookie":
        return (*headers, ("cookie", f"other=1; {name}={text}")), path
    return headers, f"{path}{'&' if '?' in path else '?'}{name}={text}"


def request(ask: Ask, authentications: Sequence[Spec]) -> Request | None:
    """What is sent; None for bytes."""
    if ask.tcp:
        return None
    headers, path = ask.headers, ask.path
    if ask.token is not None:
        named = [h for one in authentications for rule in one["spec"]["jwtRules"] for h in rule.get("fromHeaders", ())]
        headers, path = _shown(ask.token, headers, path, named[0].get("prefix", "") if named else "")
    return Request(authority=ask.host, path=path, method=ask.method, headers=headers)


def asked(ask: Ask, place: Place, trusted: int) -> Asked:
    """The same for the interpreter."""
    forwarded = [part.strip() for value in (dict(ask.headers).get("x-forwarded-for", ""),) for part in value.split(",")]
    remote = ask.source
    if trusted and not ask.tcp and len(forwarded) >= trusted and forwarded[-trusted][:1].isdigit():
        remote = forwarded[-trusted]
    clean = normalized(ask.path, {"normalize_path": True}) or "/"
    return Asked(
        tcp=ask.tcp,
        peer=ask.peer,
        source=ask.source,
        remote=remote,
        destination=place.address,
        port=place.port(ask),
        sni=ask.sni,
        host=ask.host,
        method=ask.method,
        path=clean.partition("?")[0],
        headers=ask.headers,
        token=ask.token,
    )
