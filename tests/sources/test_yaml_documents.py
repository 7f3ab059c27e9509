import json

import pytest

from pypilot.kinds.base import Ref
from pypilot.sources.yaml_documents import field_line, read_document
from tests.sources import texts


def test_an_object_without_namespace_is_in_default() -> None:
    (item,) = read_document(texts.service("a")).items
    assert item.ref == Ref("Service", "default", "a")
    assert item.object is not None
    assert item.object.namespace == "default"


def test_a_cluster_scoped_object_has_no_namespace() -> None:
    (item,) = read_document("apiVersion: v1\nkind: Namespace\nmetadata: {name: a, namespace: b}").items
    assert item.ref == Ref("Namespace", "", "a")
    assert item.object is not None
    assert item.object.namespace == ""


def test_a_timestamp_stays_text() -> None:
    text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, creationTimestamp: 2026-01-02T03:04:05Z}"
    (item,) = read_document(text).items
    assert item.object is not None
    assert item.object.metadata.creation_timestamp == "2026-01-02T03:04:05Z"


@pytest.mark.parametrize("kind", ["kind: List\napiVersion: v1\n", "kind: ServiceList\napiVersion: v1\n"])
def test_a_list_gives_its_items_at_their_lines(kind: str) -> None:
    head = "" if "ServiceList" in kind else "apiVersion: v1\n  kind: Service\n  "
    text = kind + f"items:\n- {head}metadata: {{name: a}}\n- {head}metadata: {{name: b}}\n  spec: {{type: 5}}\n"
    document = read_document(text)
    assert [i.ref.name for i in document.items] == ["a", "b"]
    lines = text.split("\n")
    assert [lines[i.line][:1] for i in document.items] == ["-", "-"]
    assert [(lines[d.line].strip(), d.field) for d in document.items[1].defects] == [("spec: {type: 5}", "spec.type")]
    assert document.items[0].is_clean
    assert not document.items[1].is_clean


def test_the_defect_stands_at_the_line_of_the_very_field() -> None:
    text = "# a comment\n" + texts.route(weight=-5)
    (item,) = read_document(text).items
    defect = item.defects[0]
    assert defect.field == "spec.http[0].route[0].weight"
    assert "weight: -5" in text.split("\n")[defect.line]
    assert defect.ref == Ref("VirtualService", "web", "shop")
    assert not item.is_clean


@pytest.mark.parametrize(
    ("text", "line", "field", "message"),
    [
        ("just words", 0, "", "not a Kubernetes object"),
        ("- 1\n- 2", 0, "", "not a Kubernetes object"),
        ("kind: Service\nmetadata: {name: a}", 0, "apiVersion", "apiVersion is missing"),
        ("apiVersion: v1\nmetadata: {name: a}", 0, "kind", "kind is missing"),
        ("apiVersion: v1\nkind: 5\nmetadata: {name: a}", 1, "kind", "kind must be a string"),
        ("apiVersion: v1\nkind: Service", 0, "metadata", "metadata is missing"),
        ("apiVersion: v1\nkind: Service\nmetadata: x", 2, "metadata", "metadata must be a mapping"),
        ("apiVersion: v1\nkind: Service\nmetadata:\n  labels: {}", 2, "metadata.name", "metadata.name is missing"),
        ("apiVersion: v1\nkind: Service\nmetadata:\n  name: 5", 3, "metadata.name", "must be a string"),
        ("apiVersion: v1\nkind: Service\nmetadata:\n  name: A b", 3, "metadata.name", "not a valid name"),
        ("apiVersion: v1\nkind: Service\nmetadata:\n  name: a/b", 3, "metadata.name", "not a valid name"),
        (
            "apiVersion: v1\nkind: Service\nmetadata:\n  name: a\n  namespace: [x]",
            4,
            "metadata.namespace",
            "must be a string",
        ),
        ("apiVersion: v1\nkind: List\nitems: 5", 2, "items", "want a list"),
        ("apiVersion: v1\nkind: List\nitems:\n- 5", 3, "items[0]", "not a Kubernetes object"),
        ("a: 1\na: 2", 1, "", "key 'a' is given twice"),
        ("a:\n\t- b", 1, "", "not valid YAML at column 1"),
    ],
)
def test_what_has_no_identity_is_named(text: str, line: int, field: str, message: str) -> None:
    document = read_document(text)
    assert not document.items
    assert not document.has_identity
    (defect,) = document.defects
    assert (defect.line, defect.field) == (line, field)
    assert message in defect.message


def test_unknown_kinds_are_no_defects() -> None:
    document = read_document("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}")
    assert [(u.api_version, u.kind) for u in document.unknown] == [("apps/v1", "Deployment")]
    assert document.has_identity
    assert not document.items


def test_an_unknown_version_is_a_warning() -> None:
    (item,) = read_document(texts.service().replace("v1", "v7")).items
    assert [(d.severity, d.field, d.line) for d in item.defects] == [("warning", "apiVersion", 0)]
    assert item.is_clean


def test_json_is_read_like_yaml() -> None:
    data = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a", "labels": {"e": "\U0001f600/"}}}
    (item,) = read_document(json.dumps(data, indent="\t"), is_json=True).items
    assert item.object is not None
    assert item.object.metadata.labels == {"e": "\U0001f600/"}


def test_defects_of_json_have_lines_even_with_tabs() -> None:
    data = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"type": 5}}
    text = json.dumps(data, indent="\t")
    (item,) = read_document(text, is_json=True).items
    (defect,) = item.defects
    assert '"type": 5' in text.split("\n")[defect.line]


@pytest.mark.parametrize(
    ("text", "message"), [("{", "not valid JSON at column 2"), ('{"a": 1,\n "a": 2}', "'a'"), ("[" * 100_000, "deep")]
)
def test_bad_json_is_named(text: str, message: str) -> None:
    (defect,) = read_document(text, is_json=True).defects
    assert message in defect.message


@pytest.mark.parametrize("value", ["12345678", "[hunter2]", "{a: [hunter2]}", "2.5"])
def test_messages_never_quote_what_a_secret_holds(value: str) -> None:
    for field in ("data", "stringData"):
        head = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n"
        for text in (f"{head}{field}: {{password: {value}}}", f"{head}{field}: {value}"):
            (item,) = read_document(text).items
            assert item.defects
            for defect in item.defects:
                assert "hunter2" not in defect.message
                assert "12345678" not in defect.message
                assert "2.5" not in defect.message


def test_the_lines_of_a_mesh_config_within_a_config_map() -> None:
    text = "kind: ConfigMap\ndata:\n  mesh: |\n    # a\n    outboundTrafficPolicy:\n      mode: X\n  b: |\n    a\n"
    line = field_line(text, "data.mesh: outboundTrafficPolicy.mode")
    assert "mode: X" in text.split("\n")[line]
    assert field_line(text, "data.mesh") == 2


@pytest.mark.parametrize("half", [r"\ud800", r"\uDFFF", r"\ud83d\u0041", r"\\\ud800", r"\udc00\ud83d\ude00"])
def test_half_a_character_in_json_is_named(half: str) -> None:
    (defect,) = read_document('{\n"kind": "' + half + '"}', is_json=True).defects
    assert (defect.line, defect.message) == (1, "not valid JSON: an escape is half of a character")


def test_whole_characters_are_taken_however_json_escapes_them() -> None:
    data = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "a", "labels": {"x": "\U0001f600", "y": "\\ud800"}},
    }
    (item,) = read_document(json.dumps(data), is_json=True).items
    assert item.object is not None
    assert item.object.metadata.labels == data["metadata"]["labels"]  # type: ignore[index]
