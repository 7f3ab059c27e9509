"""Meaning is kept: what the VirtualServices say is what the simulator finds in what they were compiled to."""

from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from pypilot.compile.generators import GENERATORS
from pypilot.engine.memo import Memo
from pypilot.kinds.base import Object
from pypilot.wire.node import Proxy, parse_node
from pypilot.wire.references import held_by
from pypilot.world.advance import advance
from pypilot.world.delta import Delta
from pypilot.world.world import World
from tests.simulate import Connection, Forward, Reply, Resources, simulate
from tests.simulate.generate import Example, examples
from tests.simulate.istio_api import Place, Said, interpret
from tests.simulate.local_reply import response_headers
from tests.simulate.model import Headers, Verdict
from tests.simulate.path import normalized
from tests.simulate.rig import UPSTREAM_HEADERS
from tests.simulate.worlds import (
    EMPTY,
    GATEWAY,
    SERVICES,
    SIDECAR,
    gateway_server_hosts,
    gateway_words,
    sidecar_words,
    virtual_services,
)

PORTS = (8080, 8081)
UPSTREAMS = tuple(range(9001, 9007))
UNREACHABLE = frozenset({"nowhere.test", EMPTY})
EXAMPLES = settings().max_examples


def proxy(kind: str) -> Proxy:
    metadata = {"INTERCEPTION_MODE": "NONE", "LABELS": {"app": "edge"}, "ISTIO_VERSION": "1.30.0"}
    return parse_node({"id": f"{kind}~10.1.0.1~edge.default~default.svc.cluster.local", "metadata": metadata})


def compiled(world: World, kind: str, objects: Iterable[Object]) -> Resources:
    memo = Memo(advance(world, Delta(upserts=tuple(objects))))
    return Resources.held(held_by({url: memo.root(made, proxy(kind)) for url, made in GENERATORS.items()}))


def told(said: Said, doubtful: frozenset[str]) -> tuple[Any, ...]:
    """The part that can be compared. A destination that has no endpoints answers 503."""
    if not said.host:
        return said.status, said.location, said.body
    if said.host in UNREACHABLE or said.subset == "v9":
        return 503, "", b""
    cluster = f"outbound|{said.port}|{said.subset}|{said.host}"
    return cluster, said.path, said.authority, known(said.request, doubtful), known(said.response, doubtful)


def found(verdict: Verdict, doubtful: frozenset[str]) -> dict[tuple[Any, ...], Fraction]:
    by_outcome: dict[tuple[Any, ...], Fraction] = {}
    for chance in verdict:
        outcome = chance.outcome
        key: tuple[Any, ...]
        if isinstance(outcome, Reply):
            direct = outcome.details == "direct_response"
            moved = direct and 300 <= outcome.status < 400
            where = dict(outcome.headers).get("location", "") if moved else ""
            key = outcome.status, where, outcome.body if direct and not moved else b""
        else:
            assert isinstance(outcome, Forward), outcome
            sent, back = outcome.request, response_headers(outcome, UPSTREAM_HEADERS)
            key = outcome.cluster, sent.path, sent.authority, known(sent.headers, doubtful), known(back, doubtful)
        by_outcome[key] = by_outcome.get(key, Fraction(0)) + chance.probability
    return by_outcome


def known(headers: Headers, doubtful: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """The headers that VirtualServices speak of, several values joined."""
    names = dict.fromkeys(name for name, _ in headers if name in ("x-a", "x-b", "x-c") and name not in doubtful)
    return tuple((name, ",".join(v for n, v in headers if n == name)) for name in sorted(names))


def agree(kind: str, world: World, example: Example) -> None:
    resources = compiled(world, kind, virtual_services(example.specs))
    for port, sent in example.requests:
        # gRPC learns of errors in other ways, and paths are normalised before anybody sees them.
        headers = tuple(pair for pair in sent.headers if pair[0] != "content-type")
        request = replace(sent, headers=headers, path=normalized(sent.path, {"normalize_path": True}) or "/")
        first = port == PORTS[0]
        name, hosts = ("all" if first else "some", gateway_server_hosts(first)) if kind == "router" else ("", SERVICES)
        want = interpret(example.specs, Place(port, name, hosts), request, UPSTREAM_HEADERS)
        if want is None:
            continue
        verdict = simulate(resources, Connection(destination="127.0.0.1", port=port), request)
        chances, doubtful = want
        expected: dict[tuple[Any, ...], Fraction] = {}
        for part, said in chances:
            expected[told(said, doubtful)] = expected.get(told(said, doubtful), Fraction(0)) + part
        got = found(verdict, doubtful)
        steps = "\n    ".join(map(str, verdict.steps))
        assert got == expected, f"{request} to {port}: want {expected}, got {got}\n    {steps}"


quick = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    phases=[Phase.generate],
)


@pytest.fixture(scope="module")
def gateway_world() -> World:
    return advance(World(), Delta(upserts=tuple(GATEWAY.world(PORTS, UPSTREAMS))))


@pytest.fixture(scope="module")
def sidecar_world() -> World:
    return advance(World(), Delta(upserts=tuple(SIDECAR.world(PORTS, UPSTREAMS))))


@quick
@given(example=examples(gateway_words(PORTS), count=6))
def test_at_a_gateway(gateway_world: World, example: Example) -> None:
    agree("router", gateway_world, example)


@quick
@given(example=examples(sidecar_words(PORTS), count=6))
def test_at_a_sidecar(sidecar_world: World, example: Example) -> None:
    agree("sidecar", sidecar_world, example)
