from pathlib import Path

import pytest

from bench.differences import Filter, read_differences


def file_of(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "differences.yaml"
    path.write_text(text)
    return path


def test_an_entry_leaves_out_what_it_names_and_counts(tmp_path: Path) -> None:
    entries = read_differences(
        file_of(tmp_path, '[{leaves: "^LDS 0.0.0.0_80 name$", reason: r}, {leaves: x, scenarios: "b.*", reason: r}]')
    )
    deliberate = Filter(entries)
    keep = deliberate.keep("abc", "LDS")
    assert keep is not None
    assert not keep("0.0.0.0_80", ("name",))
    assert keep("0.0.0.0_80", ("name", "inner"))
    assert keep("x", ("x",))  # the second entry is for scenarios whose name starts with b
    assert list(deliberate.counts.values()) == [1, 0]
    other = deliberate.keep("bcd", "LDS")
    assert other is not None
    assert not other("x", ("x",))


@pytest.mark.parametrize(
    "text",
    ["[{leaves: x}]", "[{leaves: x, reason: ' '}]", "[{leaves: x, reason: r, scenario: s}]"],
)
def test_an_entry_without_its_reason_or_with_another_key_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match="an entry has"):
        read_differences(file_of(tmp_path, text))


def test_there_may_be_only_so_many(tmp_path: Path) -> None:
    entries = ["{leaves: x, reason: r}"] * 26
    with pytest.raises(ValueError, match="26 entries"):
        read_differences(file_of(tmp_path, f"[{', '.join(entries)}]"))


def test_the_file_can_be_read() -> None:
    assert read_differences()
