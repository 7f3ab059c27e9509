import json
from typing import Any

import msgspec
import pytest

from pypilot.kinds.parse import decode_object, parse_object
from pypilot.kube.errors import ApiError, BrokenStreamError, ExpiredError
from pypilot.sources.kubernetes.decoding import Batch, ObjectDecoder
from tests.sources.kubernetes.fakes import bookmark, event, item, kind_named, listed, service

VIRTUAL_SERVICE = {
    "apiVersion": "networking.istio.io/v1",
    "kind": "VirtualService",
    "metadata": {"name": "a", "namespace": "default", "managedFields": [{"manager": "x"}]},
    "spec": {"hosts": ["a"], "http": [{"timeout": "1.5s", "route": [{"destination": {"host": "a"}}]}]},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    """The VirtualService above with another value at a path."""
    data = json.loads(json.dumps(VIRTUAL_SERVICE))
    *way, last = [int(p) if p.isdigit() else p for p in path.split(".")]
    where = data
    for step in way:
        where = where[step]
    where[last] = value
    return data


@pytest.mark.parametrize(
    "data",
    [
        VIRTUAL_SERVICE,
        changed("spec.http.0.timeout", "soon"),
        changed("spec.http.0.timeout", None),
        changed("spec.http.0.timout", "1s"),
        changed("spec.http.0.route", []),
        changed("spec.http", [{"timeout": "1s"}, VIRTUAL_SERVICE["spec"]["http"][0]]),  # type: ignore[index]
        changed("spec.hosts", None),
        changed("spec.hosts", "a"),
        changed("spec", []),
        changed("metadata.labels", {"a": 1}),
    ],
    ids=str,
)
def test_decoding_json_finds_what_parsing_plain_data_finds(data: dict[str, Any]) -> None:
    kind = kind_named("VirtualService")
    assert decode_object(kind, json.dumps(data).encode()) == parse_object(kind, data)


def test_text_that_is_no_json_is_the_callers_business() -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_object(kind_named("Pod"), b'{"metadata": ')


def test_a_list_and_a_watch_give_equal_objects() -> None:
    """Else every object would change when a list follows a watch: lists of built-in kinds leave apiVersion out."""
    decoder = ObjectDecoder(kind_named("EndpointSlice"), "v1")
    data = item("a", addressType="IPv4", endpoints=None, ports=None)
    page = decoder.page(listed(data))
    batch = Batch()
    decoder.event(event("ADDED", {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", **data}), batch)
    (from_list,), (from_watch,) = page.items.values(), batch.changes.values()
    assert from_watch is not None
    assert from_list.object == from_watch.object
    assert from_list.object is not None
    assert from_list.object.api_version == "discovery.k8s.io/v1"


def test_one_wrong_object_costs_itself_only() -> None:
    decoder = ObjectDecoder(kind_named("Service"), "v1")
    page = decoder.page(listed(service("good"), item("bad", spec=[]), service("other"), version="7", more="next"))
    assert [key[1] for key, found in page.items.items() if found.object is not None] == ["good", "other"]
    bad = page.items["default", "bad"]
    assert (bad.object, bad.is_clean, bad.findings[0].field) == (None, False, "spec")
    assert (page.version, page.next) == ("7", "next")


@pytest.mark.parametrize("body", [b"", b"upstream connect error", b'{"items": []}', b'{"metadata": {}, "items": [{}]}'])
def test_what_is_no_list_is_refused(body: bytes) -> None:
    with pytest.raises(BrokenStreamError):
        ObjectDecoder(kind_named("Service"), "v1").page(body)


def test_events_are_gathered_to_the_last_state_of_each_object() -> None:
    decoder, batch = ObjectDecoder(kind_named("Service"), "v1"), Batch()
    for line in (
        event("ADDED", service("a", version="11")),
        event("ADDED", service("b", version="12")),
        event("MODIFIED", service("a", port=81, version="13")),
        event("DELETED", service("b", version="14")),
        bookmark("20"),
    ):
        decoder.event(line, batch)
    assert batch.version == "20"
    assert batch.changes["default", "b"] is None
    last = batch.changes["default", "a"]
    assert last is not None
    assert last.object.spec.ports[0].port == 81  # type: ignore[union-attr]


def test_an_error_event_says_whether_a_new_list_is_needed() -> None:
    decoder = ObjectDecoder(kind_named("Service"), "v1")
    with pytest.raises(ExpiredError, match="too old"):
        decoder.event(event("ERROR", {"kind": "Status", "code": 410, "message": "too old"}), Batch())
    with pytest.raises(ApiError, match="500 etcd"):
        decoder.event(event("ERROR", {"kind": "Status", "code": 500, "message": "etcd"}), Batch())


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"type": "ADDED"}', b'{"type": "ADDED", "object": {"metada', b"null"])
def test_what_is_no_event_is_refused_and_changes_nothing(line: bytes) -> None:
    batch = Batch()
    with pytest.raises(BrokenStreamError):
        ObjectDecoder(kind_named("Service"), "v1").event(line, batch)
    assert not batch.changes
    assert not batch.version


def test_pods_keep_only_what_is_read_and_share_it() -> None:
    def pod(name: str) -> dict[str, Any]:
        annotations = {
            "sidecar.istio.io/status": "x" * 500,
            "kubectl.kubernetes.io/last-applied-configuration": "x" * 500,
            "example.com/whatever": "x",
            "proxy.istio.io/config": "{}",
        }
        conditions = [{"type": t, "status": "True"} for t in ("Initialized", "Ready", "PodScheduled")]
        spec = {"nodeName": "node-a", "containers": [{"name": "app", "image": "x", "ports": [{"containerPort": 80}]}]}
        metadata = {"annotations": annotations, "labels": {"app": "some-app"}}
        return item(name, metadata=metadata, spec=spec, status={"conditions": conditions, "podIP": "10.0.0.1"})

    page = ObjectDecoder(kind_named("Pod"), "v1").page(listed(pod("a"), pod("b")))
    first, second = (found.object for found in page.items.values())
    assert first is not None
    assert second is not None
    assert first.metadata.annotations == {"proxy.istio.io/config": "{}"}
    assert [c.type for c in first.status.conditions] == ["Ready"]  # type: ignore[attr-defined]
    assert first.spec.containers is second.spec.containers  # type: ignore[attr-defined]
    assert first.metadata.labels["app"] is second.metadata.labels["app"]


def test_config_maps_without_anything_that_is_read_are_left_out() -> None:
    decoder = ObjectDecoder(kind_named("ConfigMap"), "v1")
    page = decoder.page(listed(item("a", data={"x": "y"}), item("b", data={"mesh": "{}", "x": "y"}), item("c")))
    assert list(page.items) == [("default", "b")]
    found = page.items["default", "b"].object
    assert found is not None
    assert found.data == {"mesh": "{}"}  # type: ignore[attr-defined]


def test_a_secret_that_is_wrong_shows_nothing_of_itself() -> None:
    decoder = ObjectDecoder(kind_named("Secret"), "v1")
    page = decoder.page(listed(item("a", data={"tls.key": "hunter2!"}), item("b", data={"tls.key": ["hunter2!"]})))
    assert "hunter2" not in str([found.findings for found in page.items.values()])
