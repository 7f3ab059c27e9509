"""Child processes: started, watched, stopped."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pypilot.cli.demo.checks import settled
from pypilot.cli.demo.process import Child, ChildDiedError


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it; a failure after ten seconds."""

    async def ask() -> bool:
        return condition()

    assert await settled(ask, bool)


async def test_output_goes_to_files_and_the_end_stops_it(tmp_path: Path) -> None:
    argv = [
        sys.executable,
        "-c",
        "import sys,time; print('out', flush=True); print('err', file=sys.stderr); time.sleep(60)",
    ]
    async with Child.start(argv, tmp_path, name="sleeper") as child:
        await until(lambda: "err" in child.tail())
        assert child.running
        child.check()
        assert child.stdout.read_text() == "out\n"
    assert not child.running


async def test_one_that_ignores_the_polite_request_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pypilot.cli.demo.process._STOP_GRACE_SECONDS", 0.2)
    code = (
        "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"
    )
    async with Child.start([sys.executable, "-c", code], tmp_path, name="deaf") as child:
        await until(lambda: child.stdout.stat().st_size > 0)
    assert not child.running


async def test_one_that_ends_by_itself_is_told_with_its_last_words(tmp_path: Path) -> None:
    async with Child.start(
        [sys.executable, "-c", "import sys; sys.exit('no such luck')"], tmp_path, name="short"
    ) as child:
        await until(lambda: not child.running)
        with pytest.raises(ChildDiedError, match=r"short ended with code 1(.|\n)*no such luck"):
            child.check()


async def test_a_program_that_is_not_there_is_told(tmp_path: Path) -> None:
    async with Child.start(["/nonexistent/program"], tmp_path, name="none") as child:
        await until(lambda: not child.running)
        with pytest.raises(ChildDiedError, match="No such file"):
            child.check()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent death signal is Linux's")
async def test_a_child_does_not_outlive_a_killed_parent(tmp_path: Path) -> None:
    code = f"""
import asyncio, sys
from pathlib import Path
from pypilot.cli.demo.process import Child
async def main():
    argv = [sys.executable, "-c", "print('up', flush=True); import time; time.sleep(60)"]
    async with Child.start(argv, Path({str(tmp_path)!r}), name="orphan") as child:
        while not child.stdout.stat().st_size:
            await asyncio.sleep(0.01)
        print(child.pid, flush=True)
        await asyncio.sleep(60)
asyncio.run(main())
"""
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    assert alive(pid)
    parent.kill()
    await parent.wait()
    await until(lambda: not alive(pid))
