"""Whatever one document of many becomes: nothing raises, the culprit is named, and all the others stay the same."""

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from pypilot.kinds.base import Object, Ref
from pypilot.kinds.yaml_data import load_document
from pypilot.sources.file_store import FileStore
from tests.sources.texts import gateway, route, service, stream

DOCUMENTS = [route("one"), service("two"), gateway("three"), route("four"), service("five"), gateway("six")]
CULPRIT = st.integers(0, len(DOCUMENTS) - 1)

# Lines that break YAML or change a value; none begins a new document.
LINES = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\n\r\x85\u2028\u2029"), max_size=20),
    st.sampled_from(
        ["\t- x", "]", "{", "  - : -", "a: b: c", "&a *a", "*x", "!!python/object:x {}", "|", "key: 'open", "%", "? ["]
    ),
).filter(lambda line: not line.startswith(("---", "...")))

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


def settle(store: FileStore, text: str) -> tuple[dict[Ref, Object], list[str], list[int]]:
    store.put(store.read("all.yaml", text))
    update = store.refresh()
    lines = [p.origin.line for p in update.problems if p.origin is not None]
    assert len(lines) == len(update.problems)
    return dict(store._delivered), [p.severity for p in update.problems], lines


def check(before_text: str, documents: list[str], culprit: int) -> None:
    text = stream(*documents)
    start = sum(d.count("\n") + 1 for d in documents[:culprit])
    end = start + documents[culprit].count("\n") + 1
    expected = {o.ref: o for o in settle(FileStore(), before_text)[0].values()}
    names = ["one", "two", "three", "four", "five", "six"]

    fresh, severities, lines = settle(FileStore(), text)
    neighbours = {ref: o for ref, o in expected.items() if ref.name != names[culprit]}
    assert {r: o for r, o in fresh.items() if r in neighbours} == neighbours
    assert all(start < line <= end for line in lines), (start, lines, end)
    if len(fresh) < len(expected):  # without namespace it is another object, not a wrong one
        assert lines, "what could not be used must be named"

    running = FileStore()
    before, _, _ = settle(running, before_text)
    after, severities, lines = settle(running, text)
    for ref, obj in before.items():
        if ref.name != names[culprit]:
            assert after[ref] is obj
    assert all(start < line <= end for line in lines)
    if "error" in severities:
        assert all(after.get(r) is o for r, o in before.items()), "a bad version never replaces a good one"
    restored, severities, _ = settle(running, before_text)
    assert restored == before
    assert not severities


@settings(max_examples=300, deadline=None)
@given(culprit=CULPRIT, at=st.integers(0, 12), line=LINES, is_inserted=st.booleans())
def test_one_corrupt_line(culprit: int, at: int, line: str, is_inserted: bool) -> None:
    lines = DOCUMENTS[culprit].split("\n")[:-1]
    at %= len(lines)
    lines[at : at + (not is_inserted)] = [line]
    documents = list(DOCUMENTS)
    documents[culprit] = "\n".join(lines) + "\n"
    check(stream(*DOCUMENTS), documents, culprit)


@settings(max_examples=300, deadline=None)
@given(culprit=CULPRIT, data=st.data(), value=VALUES)
def test_one_corrupt_field(culprit: int, data: st.DataObject, value: Any) -> None:
    body = load_document(DOCUMENTS[culprit])[0]
    whole: dict[str, Any] = {"": body}
    node: Any = whole
    key: Any = ""
    for _ in range(data.draw(st.integers(1, 8))):
        inner = node[key]
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner))) if isinstance(inner, list) else []
        if not keys:
            break
        node, key = inner, data.draw(st.sampled_from(keys))
    if node is body and key in ("apiVersion", "kind"):
        return  # another kind is another object: nothing is wrong with it
    if node is body.get("metadata") and key in ("name", "namespace") and isinstance(value, str | None):
        return  # and so is another name
    node[key] = value
    documents = list(DOCUMENTS)
    documents[culprit] = json.dumps(whole[""], indent=1) + "\n"
    if "NaN" in documents[culprit] or "Infinity" in documents[culprit]:
        return
    check(stream(*DOCUMENTS), documents, culprit)
