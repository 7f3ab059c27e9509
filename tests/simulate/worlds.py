"""The services, gateways and proxies between which generated VirtualServices route."""

from collections.abc import Sequence
from typing import Any

from pypilot.kinds.base import Object
from tests.simulate.generate import Spec, Words
from tests.simulate.rig import MARKER, Setup
from tests.world.objects import make

SERVICES = ("s1.shop.test", "s2.shop.test", "t.s1.shop.test")
EMPTY = "empty.default.svc.cluster.local"
GATEWAY_HOSTS = ("a.test", "b.a.test", "*.a.test", "*.test", "*", "b.test")
UPSTREAMS = len(SERVICES) * 2


def _ports(ports: Sequence[int]) -> list[dict[str, Any]]:
    return [{"number": port, "name": f"http-{i}", "protocol": "HTTP"} for i, port in enumerate(ports)]


def services(ports: tuple[int, ...], upstreams: tuple[int, ...]) -> list[Object]:
    """Each service has two versions, each with an upstream of its own; one service has none."""
    found: list[Object] = []
    for i, host in enumerate(SERVICES):
        endpoints = [
            {
                "address": "127.0.0.1",
                "labels": {"version": f"v{j + 1}"},
                "ports": {f"http-{k}": upstreams[2 * i + j] for k in range(len(ports))},
            }
            for j in range(2)
        ]
        spec: Spec = {"hosts": [host], "ports": _ports(ports), "resolution": "STATIC", "endpoints": endpoints}
        found.append(make("ServiceEntry", f"entry-{i}", spec=spec))
        subsets = [{"name": v, "labels": {"version": v}} for v in ("v1", "v2")]
        found.append(make("DestinationRule", f"entry-{i}", spec={"host": host, "subsets": subsets}))
    marker = {
        "hosts": [MARKER],
        "ports": _ports(ports),
        "resolution": "STATIC",
        "endpoints": [{"address": "127.0.0.1"}],
    }
    found.append(make("ServiceEntry", "marker", spec=marker))
    spec = {"clusterIP": "10.0.0.9", "ports": [{"name": f"http-{i}", "port": port} for i, port in enumerate(ports)]}
    found.append(make("Service", "empty", spec=spec))
    return found


def gateways(ports: tuple[int, ...], upstreams: tuple[int, ...]) -> list[Object]:
    """The services, a Gateway for every host, and one for some hosts."""

    def gateway(name: str, port: int, hosts: list[str]) -> Object:
        server = {"port": {"number": port, "name": "http", "protocol": "HTTP"}, "hosts": hosts}
        return make("Gateway", name, spec={"selector": {"app": "edge"}, "servers": [server]})

    first, second = ports
    some = gateway("some", second, ["*.a.test", "default/b.test", "other/a.test", MARKER])
    return [*services(ports, upstreams), gateway("all", first, ["*"]), some]


def gateway_server_hosts(first: bool) -> tuple[str, ...]:
    """The hosts of those servers that VirtualServices of `default` may bind to."""
    return ("*",) if first else ("*.a.test", "b.test", MARKER)


def destinations(ports: tuple[int, ...]) -> tuple[Spec, ...]:
    """Services, subsets, and what nobody knows."""
    known: list[Spec] = [{"host": host, "port": {"number": ports[0]}} for host in SERVICES]
    subsets = [{**known[0], "subset": version} for version in ("v1", "v2", "v9")]
    return (
        *known,
        *subsets,
        {"host": SERVICES[1]},
        {"host": EMPTY, "port": {"number": ports[0]}},
        {"host": "nowhere.test"},
    )


GATEWAY = Setup("router", ("all", "some"), 2, UPSTREAMS, gateways)
SIDECAR = Setup("sidecar", ("mesh",), 2, UPSTREAMS, services)


def gateway_words(ports: tuple[int, ...]) -> Words:
    return Words(GATEWAY_HOSTS, destinations(ports), ports, ("all", "some"))


def sidecar_words(ports: tuple[int, ...]) -> Words:
    return Words((*SERVICES, "*.shop.test", "*.s1.shop.test"), destinations(ports), ports)


def virtual_services(specs: Sequence[Spec]) -> list[Object]:
    """Objects, the first the oldest."""
    return [
        make("VirtualService", f"vs-{i}", spec=spec, creationTimestamp=f"2024-01-01T00:00:{i:02}Z")
        for i, spec in enumerate(specs)
    ]
