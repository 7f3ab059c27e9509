import pytest

from pypilot.kinds.yaml_data import YamlError, line_of, load_document, load_positions, split_documents


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
        ("2026-01-02", "2026-01-02"),
        ("12:30", "12:30"),
        ("yes", True),
        ("Off", False),
        ("y", "y"),
        ("~", None),
        ("", None),
        ("0755", 0o755),
        ("08", 8),
        ("0x1F", 31),
        ("0x_", "0x_"),
        ("-0b_", "-0b_"),
        pytest.param("9" * 5000, "9" * 5000, id="more digits than Python reads"),
        pytest.param("0" + "7" * 5000, "0" + "7" * 5000, id="more digits than Python prints"),
        ("-0x1F", -31),
        ("0b101", 5),
        ("1_000", 1000),
        ("+7", 7),
        ("-5", -5),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        ("1e999", "1e999"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        ("-", [None]),
        ("1.2.3.4", "1.2.3.4"),
        ("'1'", "1"),
        ("!!str 1", "1"),
        ("!!int '1'", 1),
        ("! yes", "yes"),
        ("{a: 1, 2: b, true: c}", {"a": 1, "2": "b", "true": "c"}),
        ("&a [1, 2]", [1, 2]),
        ("{a: &x {k: 1, m: 2}, b: {<<: *x, k: 3}}", {"a": {"k": 1, "m": 2}, "b": {"k": 3, "m": 2}}),
    ],
)
def test_values_resolve_as_kubernetes_tools_resolve_them(text: str, value: object) -> None:
    assert load_document(text)[0] == value


@pytest.mark.parametrize(
    ("text", "message", "line"),
    [
        ("a: 1\nb: 2\na: 3\n", "key 'a' is given twice", 2),
        ("a: 1\n b: 2\n", "mapping values are not allowed", 1),
        ("a: [1\n", "did not find expected", 1),
        ("a:\n  - *nothing\n", "has no anchor", 1),
        ("? [a]\n: 1\n", "must be a string", 0),
        ("x: 1\ny: !!python/name:os.system\n", "not supported", 1),
        ("x: !!int abc\n", "not a value of tag int", 0),
        ("a: \x01\n", "control characters", 0),
        ("a: 1\n<<: 5\n", "merges mappings only", 1),
        ("a:\n  " + "[" * 200 + "]" * 200, "nested more than", 1),
    ],
)
def test_unacceptable_text_is_refused_at_its_line(text: str, message: str, line: int) -> None:
    with pytest.raises(YamlError) as caught:
        load_document(text)
    assert message in str(caught.value)
    assert caught.value.line == line


def test_a_tag_on_a_collection_has_no_effect() -> None:
    assert load_document("x: !!python/object:os.system {a: 1}")[0] == {"x": {"a": 1}}


def test_an_alias_may_be_a_key_and_not_hold_itself() -> None:
    assert load_document("\n\na: &x b\n*x : 1\n") == ({"a": "b", "b": 1}, 2)
    with pytest.raises(YamlError, match="no anchor before it"):
        load_document("a: &a [*a]")


def test_exploding_aliases_are_refused() -> None:
    text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    for i in range(1, 12):
        text += f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n"
    with pytest.raises(YamlError, match="expand"):
        load_document(text)


def test_a_stream_is_cut_into_its_documents() -> None:
    text = "# a comment\n---\na: 1\n---\n---\nb: |\n  x\n  --- no mark\n...\n%YAML 1.1\n---\nc: 2\n--- {d: 3}\n"
    chunks = list(split_documents(text))
    lines = text.split("\n")
    for chunk in chunks:
        assert lines[chunk.line].startswith(chunk.text.split("\n")[0])
    assert [load_document(c.text)[0] for c in chunks] == [
        None,
        {"a": 1},
        None,
        {"b": "x\n--- no mark\n"},
        {"c": 2},
        {"d": 3},
    ]


def test_windows_line_ends_and_no_last_line_end() -> None:
    chunks = list(split_documents("a: 1\r\n---\r\nb: 2"))
    assert [load_document(c.text)[0] for c in chunks] == [{"a": 1}, {"b": 2}]
    assert [c.line for c in chunks] == [0, 1]


def test_the_line_of_every_field_is_known() -> None:
    text = "a:\n  b:\n  - c: 1\n  - c: 2\n    d.e/f: x\n  'q': {r: 1,\n    s: 2}\nz: *nope\n".replace("*nope", "1")
    root = load_positions(text)
    expected = {"a": 0, "a.b": 1, "a.b[0]": 2, "a.b[1].c": 3, "a.b[1].d.e/f": 4, "a.q.r": 5, "a.q.s": 6, "z": 7}
    assert {path: line_of(root, path) for path in expected} == expected


def test_a_field_that_is_not_there_is_at_the_nearest_around_it() -> None:
    root = load_positions("a:\n  b:\n  - c: 1\n")
    assert [line_of(root, p) for p in ("a.b[0].nothing", "a.b[7].c", "a.x.y", "x")] == [2, 1, 0, 0]
