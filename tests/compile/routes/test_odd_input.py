"""Hundreds of VirtualServices with odd values in one mesh: nothing raises, Envoy takes the result, neighbours stay."""

import os
import random
from pathlib import Path
from typing import Any

import pytest

from pypilot.kinds import kind_of
from pypilot.kinds.base import Object
from pypilot.kinds.parse import parse_object
from pypilot.world.advance import advance
from pypilot.world.delta import Delta
from pypilot.world.world import World
from tests import golden
from tests.compile.routes.envoy import accepts
from tests.world.objects import make, service

COUNT = 300
TEXTS = [
    "",
    "x",
    "/",
    "/a",
    "*",
    ".*",
    "a++",
    "(?=a)",
    "(",
    "a b",
    "a\nb",
    "é",
    "100%",
    "%REQ(x)%",
    "%FOO%",
    "x" * 2000,
]
DURATIONS = ["0s", "1ns", "1.5s", "-1s", "9999999h", "nonsense"]
NUMBERS = [-1, 0, 1, 80, 503, 65535, 65536, 4294967295, 4294967296]
KINDS = ["exact", "prefix", "regex"]


class Odd:
    """Draws odd but well-formed JSON."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def one(self, values: list[Any]) -> Any:
        return self.chance.choice(values)

    def maybe(self, **fields: Any) -> dict[str, Any]:
        """Each of the fields or not."""
        return {key: value() for key, value in fields.items() if self.chance.random() < 0.4}

    def text(self) -> str:
        return self.one(TEXTS)

    def match(self) -> dict[str, str]:
        return {self.one(KINDS): self.text()} if self.chance.random() < 0.9 else {}

    def matches(self) -> dict[str, dict[str, str]]:
        names = ["x-a", "x-b", "", "a b", "a\nb", ":path", "@request.auth.claims.a", "@request.auth.claims[a][]"]
        return {self.one(names): self.match() for _ in range(2)}

    def operations(self) -> dict[str, Any]:
        def pairs() -> dict[str, str]:
            return {self.one(["x-a", "host", ":authority", ":path", "", "a\nb"]): self.text()}

        return {
            side: self.maybe(set=pairs, add=pairs, remove=lambda: [self.text()]) for side in ("request", "response")
        }

    def destination(self) -> dict[str, Any]:
        return {
            "host": self.one(["plain", "a.b", "", "a\nb", "*", "a|b", "10.0.0.1"]),
            **self.maybe(subset=self.text, port=lambda: {"number": self.one(NUMBERS)}),
        }

    def percent(self) -> dict[str, float]:
        return {"value": self.one([0, 0.00001, 33.333333, 100, 101, -1])}

    def rule(self) -> dict[str, Any]:
        one, text, match = self.one, self.text, self.match

        def number() -> int:
            return one(NUMBERS)

        def length() -> str:
            return one(DURATIONS)

        condition = self.maybe(
            uri=match, method=match, authority=match, scheme=match, headers=self.matches, withoutHeaders=self.matches,
            queryParams=self.matches, port=number, name=text, statPrefix=text, ignoreUriCase=lambda: True,
        )  # fmt: skip
        action = one(
            [
                {"redirect": self.maybe(uri=text, authority=text, scheme=text, port=number, redirectCode=number)},
                {"directResponse": {"status": number(), **self.maybe(body=lambda: {one(["string", "bytes"]): text()})}},
                {
                    "route": [
                        {"destination": self.destination(), "weight": number(), **self.maybe(headers=self.operations)}
                        for _ in range(self.chance.randint(1, 3))
                    ]
                },
            ]
        )
        return {
            **action,
            **({"match": [condition]} if self.chance.random() < 0.9 else {}),
            **self.maybe(
                name=text,
                timeout=length,
                headers=self.operations,
                rewrite=lambda: self.maybe(
                    uri=text, authority=text, uriRegexRewrite=lambda: {"match": text(), "rewrite": text()}
                ),
                retries=lambda: {
                    "attempts": number(),
                    **self.maybe(perTryTimeout=length, backoff=length, retryOn=text),
                },
                fault=lambda: self.maybe(
                    delay=lambda: {"fixedDelay": length(), **self.maybe(percentage=self.percent, percent=number)},
                    abort=lambda: {one(["httpStatus"]): number(), **self.maybe(percentage=self.percent)},
                ),
                mirror=self.destination,
                mirrorPercent=number,
                mirrors=lambda: [{"destination": self.destination(), **self.maybe(percentage=self.percent)}],
                corsPolicy=lambda: {
                    "allowOrigins": [match(), match()],
                    **self.maybe(allowMethods=lambda: [text()], exposeHeaders=lambda: [text()], maxAge=length),
                },
            ),
        }


def odd_objects(seed: int) -> list[Object]:
    odd = Odd(seed)
    kind = kind_of("networking.istio.io/v1", "VirtualService")
    assert kind is not None
    found = []
    for i in range(COUNT):
        hosts = [f"h{i}", odd.text()]
        spec = {"hosts": hosts, "gateways": ["mesh", "edge"], "http": [odd.rule() for _ in range(3)]}
        data = {"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": {"name": f"v{i}"}}
        data["metadata"]["namespace"] = "default"  # type: ignore[index]
        parsed = parse_object(kind, {**data, "spec": spec})
        if parsed.object is not None:
            found.append(parsed.object)
    assert len(found) > COUNT // 10
    return found


def configurations(seed: int, kind: str) -> list[dict[str, Any]]:
    server = {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}
    fixed = [
        make("Gateway", "edge", spec={"selector": {"app": "client"}, "servers": [server]}),
        service("plain"),
        *(service(f"h{i}", spec={"clusterIP": f"10.2.{i // 250}.{i % 250 + 1}"}) for i in range(COUNT)),
    ]
    world = advance(World(), Delta(upserts=(*fixed, *odd_objects(seed))))
    case = golden.Case(world, golden.node({"type": kind}), ["RDS"])
    return [golden.decode(resource) for resource in golden.generate(case, "RDS")]


@pytest.mark.envoy
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["sidecar", "router"])
def test_envoy_takes_what_becomes_of_odd_input(kind: str, seed: int, tmp_path: Path) -> None:
    configs = configurations(seed, kind)
    assert configs
    assert accepts(configs, tmp_path, os.environ)


def test_a_neighbour_is_what_it_would_be_alone() -> None:
    (config,) = configurations(0, "sidecar")
    hosts = {host["name"]: host for host in config["virtual_hosts"]}
    plain = hosts["plain.default.svc.cluster.local:80"]
    assert plain["routes"][0]["route"]["cluster"] == "outbound|80||plain.default.svc.cluster.local"
    assert len(hosts) > COUNT
