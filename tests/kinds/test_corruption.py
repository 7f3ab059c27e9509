"""A wrong field of any kind is named, with its value, and takes nothing with it but the unit that it is in."""

import json
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pypilot.kinds import KINDS
from pypilot.kinds.base import Finding, Kind
from pypilot.kinds.parse import _remove, _steps, _unit_of, field_path, parse_object
from tests.corruption import VALUES, Document, Path, Position, corrupted, golden_documents, places

documents = cache(golden_documents)


def clean(kind: Kind) -> list[Document]:
    return [d for d in documents()[kind.name] if parse_object(kind, d).clean] or documents()[kind.name]


def errors(findings: tuple[Finding, ...]) -> list[Finding]:
    return [f for f in findings if f.severity == "error"]


def related(field: str, path: Path) -> bool:
    """The field is the place, or within it, or what directly holds it."""
    place, holder = field_path(path), field_path(path[:-1])
    return field.startswith(place) or (bool(holder) and field == holder)


def check(kind: Kind, document: Document, position: Position, value: Any) -> None:
    broken = corrupted(document, position.path, value)
    parsed = parse_object(kind, broken)
    found = errors(parsed.findings)
    assert parsed.object is not None or found, "what cannot be used must be said"
    json.dumps([f.message for f in found])
    if not position.refuses(value) or not parse_object(kind, document).clean:
        return
    named = [f for f in found if related(f.field, position.path)]
    assert named, f"{position.path} = {value!r:.50} is not named by {found}"
    if not kind.confidential and isinstance(value, str | int | float) and len(str(value)) < 50:
        assert any(repr(value) in f.message or str(value) in f.message for f in named)
    if kind.confidential and isinstance(value, str) and len(value) > 5:
        assert not any(value in f.message for f in found)
    if isinstance(value, list):
        return  # its items may be units themselves
    if kind.without is not None and any(kind.without(document, _steps(f.field)) is not None for f in found):
        return  # the kind leaves out less than the unit
    unit = _unit_of(position.path, kind.units)
    if kind.hold is not None and kind.hold(broken, position.path) is not None:
        assert parsed.object is not None, "it is held as something safe"
    elif unit is None:
        assert parsed.object is None
    else:
        assert parsed.object == parse_object(kind, _remove(document, unit)).object


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_one_corrupt_field(kind: Kind, data: st.DataObject) -> None:
    document = data.draw(st.sampled_from(clean(kind)))
    position = data.draw(st.sampled_from(places(kind, document)))
    check(kind, document, position, data.draw(st.sampled_from(VALUES)))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_field_refuses_something(kind: Kind) -> None:
    """Each position of the richest documents once, with a value that its type refuses."""
    for document in sorted(clean(kind), key=lambda d: -len(json.dumps(d)))[:3]:
        for position in places(kind, document):
            refused = [v for v in VALUES if position.refuses(v)]
            for value in refused[:1] + refused[-1:]:
                check(kind, document, position, value)
