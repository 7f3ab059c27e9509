from typing import Any

from pypilot.compile.targets import service_targets
from pypilot.kinds.base import Object
from pypilot.world.advance import advance
from pypilot.world.delta import Delta
from pypilot.world.reader import Reader
from pypilot.world.world import World
from tests.golden import node
from tests.world.objects import endpoint_slice, make, pod, service

PORTS = [
    {"name": "http", "port": 80, "targetPort": 8080},
    {"name": "http-again", "port": 81, "targetPort": 8080},
    {"name": "tcp-same", "port": 82, "targetPort": 8080},
    {"name": "named", "port": 83, "targetPort": "admin"},
    {"name": "plain", "port": 84},
]


def targets(*objects: Object, **node_parts: Any) -> list[tuple[str, int, int]]:
    world = advance(World(), Delta(upserts=objects))
    proxy = node({"name": "a-1", "namespace": "default", "ip": "10.1.0.1", "labels": {"app": "a"}, **node_parts})
    return [
        (t.service.hostname.partition(".")[0], t.port.number, t.target) for t in service_targets(Reader(world), proxy)
    ]


def pod_with_ports() -> Object:
    return make(
        "Pod",
        "a-1",
        labels={"app": "a"},
        spec={"containers": [{"ports": [{"name": "admin", "containerPort": 9901}]}]},
        status={"podIP": "10.1.0.1"},
    )


def test_ports_of_the_services_that_select_the_pod() -> None:
    """Of ports with one target and protocol only the first counts; named ones are looked up in the pod."""
    made = targets(service("a", spec={"ports": PORTS}), service("b"), pod_with_ports())
    assert made == [("a", 80, 8080), ("a", 82, 8080), ("a", 83, 9901), ("a", 84, 84)]


def test_an_unknown_pod_is_what_its_node_says() -> None:
    ports = '[{"name": "admin", "containerPort": 9, "protocol": "TCP"}]'
    one = service("a", spec={"ports": PORTS[3:4]})
    assert targets(one, metadata={"POD_PORTS": ports}) == [("a", 83, 9)]
    assert targets(one, metadata={"POD_PORTS": "no JSON"}) == []
    assert targets(one, metadata={"POD_PORTS": "[1]"}) == []


def test_the_pods_labels_count_not_the_nodes() -> None:
    assert targets(service("b"), pod("a-1", "10.1.0.1", app="b")) == [("b", 80, 80)]


def test_oldest_first() -> None:
    old, new = "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"
    services = (
        service("y", creationTimestamp=new, spec={"selector": {"app": "a"}}),
        service("z", creationTimestamp=old, spec={"selector": {"app": "a"}}),
        service("x", spec={"selector": {"app": "a"}}),
        service("w", creationTimestamp=old, spec={"selector": {"app": "a"}}),
    )
    assert [name for name, _, _ in targets(*services, pod_with_ports())] == ["w", "z", "y", "x"]


def test_a_service_without_selector_is_found_by_address() -> None:
    """Only where no service selects the pod."""
    bare = service("bare", spec={"selector": {}})
    slices = endpoint_slice("bare", {"a-1": "10.1.0.1"})
    assert targets(bare, slices, pod_with_ports()) == [("bare", 80, 8080)]
    assert targets(bare, slices, pod_with_ports(), name="another", ip="10.1.0.9") == []
    assert targets(bare, slices, pod_with_ports(), service("a")) == [("a", 80, 80)]


def test_service_entries_are_found_by_address() -> None:
    spec = {
        "hosts": ["own.example"],
        "resolution": "STATIC",
        "ports": [{"number": 7, "name": "http", "protocol": "HTTP"}, {"number": 8, "name": "tcp", "protocol": "TCP"}],
        "endpoints": [{"address": "10.1.0.1", "ports": {"http": 7070}}, {"address": "10.1.0.2"}],
    }
    entry = make("ServiceEntry", "own", spec=spec)
    assert targets(entry) == [("own", 7, 7070), ("own", 8, 8)]
    assert targets(entry, namespace="other") == []
