"""The ledger is complete, true and fresh."""

import difflib

import pytest

from pypilot.kinds.base import Spec
from tests.ledger import official
from tests.ledger.consumption import consumption
from tests.ledger.render import COMMAND, PATH, render, update
from tests.ledger.rows import MESH, Row, _Walk, defects, sections


def test_every_field_of_the_api_is_consumed_or_says_why_not() -> None:
    assert defects() == []


def test_no_code_reads_fields_by_names_that_it_makes_up() -> None:
    """Such reads would escape the ledger."""
    assert consumption()[1] == frozenset()


def test_the_ledger_is_fresh(request: pytest.FixtureRequest) -> None:
    if request.config.getoption("--update-golden"):
        update()
    diff = difflib.unified_diff(PATH.read_text().splitlines(), render().splitlines(), "docs", "now", lineterm="", n=0)
    text = "\n".join(diff)
    assert not text, f"run `{COMMAND}` and commit docs/api-coverage.md\n{text}"


def test_every_official_kind_that_is_read_is_compared() -> None:
    compared = {s.name for s in sections() if s.is_istio}
    assert {"VirtualService", "DestinationRule", "Gateway", "ServiceEntry", "MeshConfig"} <= compared


def rows(cls: type[Spec], known: official.Tree) -> dict[str, Row]:
    return {row.path: row for row in _Walk(has_official=True, is_open=False).rows(cls, known)}


def test_a_field_that_only_the_api_has_is_found() -> None:
    known = official.official("MeshConfig")
    assert not [r for r in rows(MESH["MeshConfig"], known).values() if r.defect]
    found = rows(MESH["MeshConfig"], {**known, "invented": {}})
    assert "does not declare it" in found["invented"].defect


def test_a_field_that_nobody_reads_is_found() -> None:
    class Unread(Spec, frozen=True):
        field: str = ""

    assert "read by nothing" in rows(Unread, {"field": {}})["field"].defect


@pytest.mark.parametrize(
    ("name", "is_read"),
    [
        ("virtual_service.HTTPRoute.timeout", True),
        ("pod.PodIP.ip", True),  # within a property of a kind that other rooms use
        ("mesh_config.LabelRequirement.operator", True),  # within a method
        ("virtual_service.FaultDelay.exponential_delay", False),
        ("gateway.Server.default_endpoint", False),
    ],
)
def test_what_reads_a_field(name: str, is_read: bool) -> None:
    assert bool(consumption()[0][f"pypilot.kinds.{name}"]) == is_read


def test_checking_a_field_is_not_consuming_it() -> None:
    readers = consumption()[0]["pypilot.kinds.service_entry.ServiceEntrySpec.addresses"]
    assert readers
    assert not any(path.startswith("pypilot/kinds/") for files in consumption()[0].values() for path in files)


PROTO = """
syntax = "proto3";
package a.b;
message Root {
  // string no = 9;
  repeated Inner items = 1;
  map<string, Inner> by_name = 2;
  enum Mode { ONE = 0; }
  Mode the_mode = 3 [deprecated = true];
  oneof choice { string left_side = 4; Inner right = 5; }
  message Inner { bool on = 1 [json_name = "isOn"]; Root again = 2; }
}
"""


def test_fields_of_a_proto() -> None:
    messages = dict(official._messages(PROTO))
    inner = {"isOn": {}, "again": {}}
    assert official._expanded("a.b.Root", messages) == {
        "items[]": inner,
        "byName{}": inner,
        "theMode": {},
        "leftSide": {},
        "right": inner,
    }


def test_fields_of_a_definition() -> None:
    text = """
spec:
  group: networking.istio.io
  names: {kind: Thing}
  versions:
  - schema: {openAPIV3Schema: {properties: {spec: {properties: {
      a: {type: array, items: {properties: {b: {type: string}}}},
      c: {additionalProperties: {properties: {d: {type: integer}}}},
      e: {type: array, items: {type: string}}}}}}}
"""
    assert dict(official.from_definitions(text)) == {"Thing": {"spec": {"a[]": {"b": {}}, "c{}": {"d": {}}, "e": {}}}}
    tree = {"a[]": {"b": {}}, "c": {"d": {"e": {}}, "f": {}}}
    assert official.read_tree(official.write_tree(tree)) == tree
