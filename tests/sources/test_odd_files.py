"""FileSource over what is not an ordinary file, or cannot be looked at."""

import os
from pathlib import Path

import pytest

from pypilot.kinds.base import Ref
from pypilot.sources.files import FileSource
from tests.sources.texts import route

SHOP = Ref("VirtualService", "web", "shop")


def test_pipes_and_devices_in_a_directory_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(route())
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "zero.yaml").symlink_to("/dev/zero")
    update = FileSource([tmp_path]).initial()
    assert [o.ref for o in update.delta.upserts] == [SHOP]
    assert not update.problems


def test_a_directory_that_cannot_be_listed_is_named_and_keeps_what_it_gave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = tmp_path / "sub"
    directory.mkdir()
    (directory / "a.yaml").write_text(route(weight=1))
    source = FileSource([tmp_path])
    source.initial()
    listed = os.scandir

    def scandir(path: str) -> object:
        if str(path) == str(directory):
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(os, "scandir", scandir)
    (directory / "a.yaml").write_text(route(weight=2))
    update = source.initial()
    assert not update.delta
    (problem,) = update.problems
    assert (str(problem.origin), problem.code) == (str(directory), "unreadable")
    monkeypatch.undo()
    update = source.initial()
    assert [o.ref for o in update.delta.upserts] == [SHOP]
    assert not update.problems
