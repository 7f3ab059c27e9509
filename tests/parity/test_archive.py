from pathlib import Path

import pytest

from bench import archive
from bench.archive import archived, extract, pack, read_scenario, recordings, refresh, unpack
from bench.recordings import DEFAULT, nodes, recorded


def scenario(root: Path, name: str, **files: str) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    (root / "cluster.yaml").write_text("# nothing\n")
    for file, text in {"world.yaml": "a: b\n", "istiod/n/CDS.json": '[{"resource": {}, "name": "c"}]', **files}.items():
        path = root / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root / name


def test_an_archive_depends_on_its_content_alone() -> None:
    files = {"b": b"2", "a/c": b"1"}
    assert pack(files) == pack(dict(reversed(files.items())))
    assert unpack(pack(files)) == files


def test_what_comes_out_is_what_went_in(tmp_path: Path) -> None:
    source = scenario(tmp_path / "in", "one", **{"scenario.yaml": "short: form\n"})
    refresh(tmp_path / "in", tmp_path / "archive")
    out = extract("one", tmp_path / "out", tmp_path / "archive")
    assert read_scenario(out) == read_scenario(source)
    assert recorded(out / "istiod" / "n")["CDS"] == {"c": {}}
    assert not (out / "scenario.yaml").exists()
    assert (out.parent / "cluster.yaml").read_text() == "# nothing\n"


def test_refresh_touches_only_what_is_different(tmp_path: Path) -> None:
    for name in ("kept", "changed", "gone"):
        scenario(tmp_path / "in", name)
    assert set(refresh(tmp_path / "in", tmp_path / "archive").values()) == {"added"}
    kept = tmp_path / "archive" / "kept.tar.xz"
    before = kept.stat().st_mtime_ns
    again = tmp_path / "again"
    scenario(again, "kept", **{"istiod/n/CDS.json": '[ {"name": "c", "resource": {}} ]'})
    scenario(again, "changed", **{"world.yaml": "a: c\n"})
    assert refresh(again, tmp_path / "archive") == {"gone": "dropped", "changed": "changed"}
    assert kept.stat().st_mtime_ns == before
    assert archived(tmp_path / "archive") == ["changed", "kept"]


def test_without_a_directory_the_archive_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with recordings(tmp_path) as given:
        assert given == tmp_path
    monkeypatch.setattr(archive, "DEFAULT", tmp_path)
    with recordings(None) as usual:
        assert usual == tmp_path
    monkeypatch.setattr(archive, "DEFAULT", tmp_path / "none")
    monkeypatch.setattr(archive, "archived", lambda: ["bookinfo"])
    with recordings(None) as own:
        assert own != DEFAULT
        assert [name for name, _ in nodes(own / "bookinfo")] == ["istio-ingressgateway", "productpage-v1", "reviews-v1"]
    assert not own.exists()
