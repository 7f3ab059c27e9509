"""FileSource on real files, with real file system events."""

import asyncio
import json
import os
import shutil
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from pypilot.kinds.base import Duration, Ref
from pypilot.sources.files import FileSource
from pypilot.sources.update import Update
from tests.sources.texts import gateway, route, service, stream

SHOP = Ref("VirtualService", "web", "shop")
LONG = 20.0  # seconds until a test gives up; never a measure


class Follower:
    """A source whose updates are waited for by what they bring."""

    def __init__(self, source: FileSource) -> None:
        self.source = source
        self._updates: AsyncGenerator[Update, None] = source.updates()
        self._coming: asyncio.Task[Update] | None = None
        self.seen: list[Update] = []

    async def next(self) -> Update:
        update = await asyncio.wait_for(anext(self._updates), LONG)
        self.seen.append(update)
        return update

    async def upserted(self, *names: str) -> list[Update]:
        """All updates up to the one with which all these objects came."""
        missing, updates = set(names), []
        while missing:
            updates.append(await self.next())
            missing -= {o.ref.name for o in updates[-1].delta.upserts}
        return updates

    async def removed(self, *names: str) -> None:
        missing = set(names)
        while missing:
            missing -= {r.name for r in (await self.next()).delta.removals}

    async def reported(self, words: str) -> Update:
        while True:
            update = await self.next()
            if any(words in p.message for p in update.problems):
                return update

    async def close(self) -> None:
        await self._updates.aclose()


async def follow(*paths: Path, mesh: Path | None = None) -> Follower:
    source = FileSource(paths, mesh)
    source.initial()
    return Follower(source)


async def change_after_watch(follower: Follower, change: object) -> None:
    """Run `change` once the source watches."""
    assert callable(change)

    async def later() -> None:
        await asyncio.sleep(0.15)
        change()

    follower._later = asyncio.create_task(later())  # type: ignore[attr-defined]


def test_directories_are_read_recursively_and_only_what_is_meant_to_be(tmp_path: Path) -> None:
    (tmp_path / "sub" / "deep").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "a.yaml").write_text(route("one"))
    (tmp_path / "sub" / "b.yml").write_text(route("two"))
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}}
    (tmp_path / "sub" / "deep" / "c.json").write_text(json.dumps(namespace))
    for name in ("d.txt", "e.yaml~", ".f.yaml", ".hidden/g.yaml"):
        (tmp_path / name).write_text("[")
    (tmp_path / "sub" / "loop").symlink_to(tmp_path)
    update = FileSource([tmp_path]).initial()
    assert sorted(o.ref.name for o in update.delta.upserts) == ["one", "two", "x"]
    assert sorted(str(o) for o in update.delta.origins.values()) == [
        f"{tmp_path}/a.yaml:1",
        f"{tmp_path}/sub/b.yml:1",
        f"{tmp_path}/sub/deep/c.json:1",
    ]
    assert update.problems == ()


def test_paths_are_shown_as_they_were_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "a.yaml").write_text(route("one"))
    monkeypatch.chdir(tmp_path)
    for given in ("conf", "conf/", "./conf", "conf/a.yaml", "."):
        (origin,) = FileSource([given]).initial().delta.origins.values()
        assert origin.source == {"./conf": "./conf/a.yaml"}.get(given, "conf/a.yaml")
    twice = FileSource(["conf/a.yaml", "conf", tmp_path]).initial()
    assert len(twice.delta.upserts) == 1
    assert twice.problems == ()


def test_what_cannot_be_read_is_reported_and_the_rest_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "b.yaml").write_text(route())
    (tmp_path / "c.yaml").symlink_to(tmp_path / "nowhere")
    update = FileSource([tmp_path, tmp_path / "missing"]).initial()
    assert [o.ref for o in update.delta.upserts] == [SHOP]
    assert {p.origin.source for p in update.problems if p.origin} == {f"{tmp_path}/a.yaml", f"{tmp_path}/missing"}


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xef\xbb\xbf" + route().encode())
    update = FileSource([tmp_path]).initial()
    assert [o.ref for o in update.delta.upserts] == [SHOP]
    assert update.problems == ()


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def _replace(path: Path, text: str) -> None:
    """As editors save: a new file is moved over the old one."""
    other = path.with_name("." + path.name + ".swp")
    other.write_text(text)
    other.replace(path)


def _back_up_and_write(path: Path, text: str) -> None:
    """As other editors save: the old file is moved away, a new one written."""
    path.rename(path.with_name(path.name + "~"))
    path.write_text(text)


SAVES = [_write, _replace, _back_up_and_write]


@pytest.mark.parametrize("save", SAVES)
@pytest.mark.parametrize("given", ["directory", "file"])
async def test_an_edit_is_seen_however_it_is_saved(tmp_path: Path, save: object, given: str) -> None:
    assert callable(save)
    directory = tmp_path / "conf"
    directory.mkdir()
    file = directory / "a.yaml"
    file.write_text(stream(route(weight=1), service()))
    follower = await follow(directory if given == "directory" else file)
    for weight in (2, 3):  # the second time shows that a replaced file is still watched
        await change_after_watch(follower, lambda weight=weight: save(file, stream(route(weight=weight), service())))
        updates = await follower.upserted("shop")
        assert all(not u.delta.removals for u in updates)
        assert [o.ref for u in updates for o in u.delta.upserts] == [SHOP]
    await follower.close()


async def test_an_emptied_file_that_is_filled_soon_after_removes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pypilot.sources import files

    monkeypatch.setattr(files, "_SECOND_LOOK_SECONDS", 2.0)  # far more than the writer below takes on a busy machine
    file = tmp_path / "a.yaml"
    file.write_text(stream(route(weight=1), service()))
    follower = await follow(tmp_path)

    async def slow_save() -> None:
        await asyncio.sleep(0.15)
        text = stream(service(), route(weight=2))
        with file.open("w") as out:
            await asyncio.sleep(0.1)
            out.write(text)

    task = asyncio.create_task(slow_save())
    updates = await follower.upserted("shop")
    assert all(not u.delta.removals for u in updates)
    await task
    await follower.close()


async def test_new_and_deleted_files_and_directories_are_seen(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(route("one"))
    follower = await follow(tmp_path)
    await change_after_watch(follower, lambda: (tmp_path / "b.yaml").write_text(route("two")))
    await follower.upserted("two")

    def new_directories() -> None:
        (tmp_path / "x" / "y").mkdir(parents=True)
        (tmp_path / "x" / "y" / "c.yaml").write_text(route("three"))

    await change_after_watch(follower, new_directories)
    await follower.upserted("three")
    await change_after_watch(follower, lambda: (tmp_path / "x" / "y" / "d.yaml").write_text(route("four")))
    await follower.upserted("four")
    await change_after_watch(follower, (tmp_path / "b.yaml").unlink)
    await follower.removed("two")
    await change_after_watch(follower, lambda: (tmp_path / "x").rename(tmp_path.parent / "moved-away"))
    await follower.removed("three", "four")
    await follower.close()


async def test_a_mounted_config_map_is_followed_over_its_swaps(tmp_path: Path) -> None:
    mount = tmp_path / "mount"
    mount.mkdir()

    def publish(generation: int, files: dict[str, str]) -> None:
        data = mount / f"..generation_{generation}"
        (data / "sub").mkdir(parents=True)
        for name, text in files.items():
            (data / name).write_text(text)
        link = mount / "..data_tmp"
        link.symlink_to(data.name)
        link.replace(mount / "..data")

    publish(1, {"a.yaml": route(weight=1), "b.yaml": service(), "sub/c.yaml": gateway()})
    (mount / "a.yaml").symlink_to("..data/a.yaml")
    (mount / "b.yaml").symlink_to("..data/b.yaml")
    (mount / "sub").symlink_to("..data/sub")
    follower = await follow(mount)
    assert {o.ref.name for o in follower.source._store._delivered.values()} == {"shop", "first", "gate"}
    for generation in (2, 3):
        changed = {"a.yaml": route(weight=generation), "b.yaml": service(), "sub/c.yaml": gateway(port=generation)}
        await change_after_watch(follower, lambda g=generation, c=changed: publish(g, c))
        updates = await follower.upserted("shop", "gate")
        assert all(not u.delta.removals for u in updates)
        assert "first" not in {o.ref.name for u in updates for o in u.delta.upserts}
    await follower.close()


async def test_a_directory_that_comes_later_or_comes_back_is_read(tmp_path: Path) -> None:
    directory = tmp_path / "conf" / "later"
    source = FileSource([directory])
    assert source.initial().problems[0].code == "missing"
    follower = Follower(source)

    def create() -> None:
        directory.mkdir(parents=True)
        (directory / "a.yaml").write_text(route())

    await change_after_watch(follower, create)
    updates = await follower.upserted("shop")
    assert updates[-1].problems == ()
    await change_after_watch(follower, lambda: directory.parent.rename(tmp_path / "away"))
    await follower.removed("shop")
    await change_after_watch(follower, lambda: (tmp_path / "away").rename(directory.parent))
    await follower.upserted("shop")
    await change_after_watch(follower, lambda: (directory / "a.yaml").write_text(route(weight=7)))
    await follower.upserted("shop")
    await follower.close()


async def test_a_link_to_a_directory_elsewhere_is_followed_when_it_is_turned(tmp_path: Path) -> None:
    for release in ("one", "two"):
        (tmp_path / release).mkdir()
        (tmp_path / release / "a.yaml").write_text(route(release))
    current = tmp_path / "current"
    current.symlink_to("one")
    follower = await follow(current)

    def turn() -> None:
        other = tmp_path / "next"
        other.symlink_to("two")
        other.replace(current)

    await change_after_watch(follower, turn)
    await follower.upserted("two")
    await change_after_watch(follower, lambda: (tmp_path / "two" / "a.yaml").write_text(route("two", weight=9)))
    async with asyncio.timeout(5):  # long before everything is looked at again
        await follower.upserted("two")
    await follower.close()


async def test_a_directory_made_anew_is_watched(tmp_path: Path) -> None:
    directory = tmp_path / "mesh"
    directory.mkdir()
    (directory / "a.yaml").write_text(route("one"))
    follower = await follow(directory)

    def make(name: str) -> None:
        shutil.rmtree(directory)
        directory.mkdir()
        (directory / "a.yaml").write_text(route(name))

    await change_after_watch(follower, lambda: make("two"))
    await follower.upserted("two")
    await change_after_watch(follower, lambda: (directory / "a.yaml").write_text(route("two", weight=9)))
    async with asyncio.timeout(5):
        await follower.upserted("two")
    await follower.close()


async def test_a_bad_edit_is_reported_and_its_repair_too(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text(route(weight=1))
    follower = await follow(tmp_path)
    await change_after_watch(follower, lambda: file.write_text(route(weight=-5)))
    bad = await follower.reported("got -5")
    assert not bad.delta
    await change_after_watch(follower, lambda: file.write_text("kind: ["))
    worse = await follower.reported("not valid YAML")
    assert not worse.delta
    await change_after_watch(follower, lambda: file.write_text(route(weight=1)))
    good = await follower.next()
    assert good.problems == ()
    assert not good.delta.upserts
    await follower.close()


async def test_a_permission_that_is_taken_away_takes_nothing_else_away(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    file = tmp_path / "a.yaml"
    file.write_text(route())
    follower = await follow(tmp_path)
    await change_after_watch(follower, lambda: file.chmod(0))
    update = await follower.reported("Permission denied")
    assert not update.delta
    await follower.close()


async def test_the_mesh_config_file_is_followed_and_wins_by_being_apart(tmp_path: Path) -> None:
    mesh = tmp_path / "mesh.yaml"
    mesh.write_text("connectTimeout: 3s\nsomethingElse: 1\n")
    (tmp_path / "a.yaml").write_text(route())
    source = FileSource([tmp_path], mesh)
    first = source.initial()
    assert first.delta.mesh is not None
    assert first.delta.mesh.connect_timeout == Duration.of(3)
    assert [(str(p.origin), p.field, p.severity) for p in first.problems] == [
        (f"{mesh}:2", "somethingElse", "warning")
    ], "and the mesh file is not taken for an object"
    follower = Follower(source)
    await change_after_watch(follower, lambda: mesh.write_text("connectTimeout: 4s\n"))
    second = await follower.next()
    assert second.delta.mesh is not None
    assert second.delta.mesh.connect_timeout == Duration.of(4)
    await change_after_watch(follower, lambda: mesh.write_text("\n\nconnectTimeout: soon\n"))
    bad = await follower.next()
    assert bad.delta.mesh is None
    assert [(str(p.origin), p.field, p.severity) for p in bad.problems] == [(f"{mesh}:3", "connectTimeout", "error")]
    assert "last good" in bad.problems[0].message
    await change_after_watch(follower, mesh.unlink)
    gone = await follower.next()
    assert gone.delta.mesh is None
    assert "no such file" in gone.problems[0].message
    await follower.close()


def test_without_a_usable_mesh_config_file_the_defaults_are_in_force(tmp_path: Path) -> None:
    update = FileSource([], tmp_path / "none.yaml").initial()
    assert update.delta.mesh is not None
    assert "Istio's defaults are in force" in update.problems[0].message


async def test_problems_found_elsewhere_get_their_line(tmp_path: Path) -> None:
    from pypilot.world.delta import Problem

    file = tmp_path / "a.yaml"
    file.write_text(stream(service(), route()))
    source = FileSource([tmp_path])
    source.initial()
    found = source.locate(Problem("bad", ref=SHOP, field="spec.http[0].route[1].weight"))
    assert found.origin is not None
    assert file.read_text().split("\n")[found.origin.line - 1].strip() == "weight: 50"
    other = Problem("bad", ref=Ref("Secret", "x", "y"))
    assert source.locate(other) is other


async def test_where_the_system_cannot_watch_it_is_looked_at_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pypilot.sources import files

    def no_watches_left(*_: object, **__: object) -> AsyncGenerator[object, None]:
        raise OSError("OS file watch limit reached")

    monkeypatch.setattr(files, "awatch", no_watches_left)
    monkeypatch.setattr(files, "_POLL_SECONDS", 0.02)
    file = tmp_path / "a.yaml"
    file.write_text(route(weight=1))
    follower = await follow(tmp_path)
    update = await follower.reported("watch limit reached")
    assert update.problems[0].severity == "warning"
    file.write_text(route(weight=22))
    await follower.upserted("shop")
    await follower.close()
