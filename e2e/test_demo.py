"""`pypilot demo`, whole: the real control plane, real Envoys, real traffic, and nothing left behind."""

import asyncio
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from pypilot.cli.demo.netns import why_unavailable
from pypilot.cli.demo.steps import STEPS

pytestmark = pytest.mark.envoy

EGRESS = 4
SECONDS = 120
"""A hung demo is a failure; a slow machine is not."""


@asynccontextmanager
async def demo(*options: str, temporary: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """A running demo, with its result on stdout and its progress on stderr; what it leaves would be in `temporary`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pypilot", "demo", "-o", "json", *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(temporary)},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            await process.wait()


async def said(process: asyncio.subprocess.Process, words: str) -> str:
    """What is on stderr until the words come."""
    assert process.stderr is not None
    text = ""
    async with asyncio.timeout(SECONDS):
        while words not in text:
            line = await process.stderr.readline()
            assert line, f"ended without saying {words!r}:\n{text}"
            text += line.decode()
    return text


@pytest.fixture
def short() -> Iterator[Path]:
    """A temporary directory, not too deep for unix sockets, that other users may pass; it must be empty at the end."""
    with tempfile.TemporaryDirectory(prefix="pp-e2e-") as name:
        Path(name).chmod(0o711)
        yield Path(name)
        assert list(Path(name).iterdir()) == []


def namespaces_of(pid: int) -> list[str]:
    where = Path("/run/netns")
    return [p.name for p in where.iterdir() if f"-{pid}-" in p.name] if where.exists() else []


def children_in(directory: str) -> list[str]:
    """Command lines of processes that name a directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_text().replace("\0", " ")
        except OSError:
            continue
        if directory in line:
            found.append(line)
    return found


def left_of(directory: str) -> list[str]:
    """The directory and its processes, if they are still there."""
    return [*children_in(directory), *([directory] if Path(directory).exists() else [])]


def working_directory(text: str) -> str:
    """The directory that the demo says it works in."""
    return next(w for w in text.split() if "pypilot-demo-" in w).removesuffix("/config")


@pytest.mark.parametrize("ads", ["delta", "sotw"])
async def test_everything_holds(ads: str, short: Path) -> None:
    async with demo("--ads", ads, temporary=short) as process:
        out, err = await asyncio.wait_for(process.communicate(), SECONDS)
    result: dict[str, Any] = json.loads(out)
    failed = [c for step in result["steps"] for c in step["checks"] if not c["ok"]]
    assert failed == [], err.decode()
    assert result["ok"] is True
    assert process.returncode == 0
    assert [s["title"] for s in result["steps"]] == [s.title for s in STEPS]
    for step in result["steps"]:
        if step["step"] == EGRESS and (reason := why_unavailable()):
            assert step["left_out"] == reason
        else:
            assert step["left_out"] is None
            assert len(step["checks"]) >= 3
    assert namespaces_of(process.pid) == []
    directory = working_directory(err.decode())
    assert left_of(directory) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130)])
async def test_a_signal_in_the_middle_leaves_nothing_behind(number: signal.Signals, code: int, short: Path) -> None:
    async with demo(temporary=short) as process:
        directory = working_directory(await said(process, f"\n5. {STEPS[4].title}"))
        assert children_in(directory) != []
        process.send_signal(number)
        await asyncio.wait_for(process.communicate(), SECONDS)
    assert process.returncode == code
    assert namespaces_of(process.pid) == []
    assert left_of(directory) == []


async def test_kept_running_until_a_signal(short: Path) -> None:
    async with demo("--keep", "--interception", "off", temporary=short) as process:
        text = await said(process, "https://shop.example:")
        directory = working_directory(text)
        assert "left out: switched off" in text
        assert f"{directory}/config" in text
        assert children_in(directory) != []
        process.send_signal(signal.SIGINT)
        out, _ = await asyncio.wait_for(process.communicate(), SECONDS)
    assert json.loads(out)["ok"] is True
    assert process.returncode == 0
    assert left_of(directory) == []


async def test_an_envoy_that_does_not_start_is_a_loud_failure(tmp_path: Path) -> None:
    program = tmp_path / "envoy"
    program.write_text("#!/bin/sh\necho no such luck >&2\nexit 7\n")
    program.chmod(0o755)
    async with demo("--envoy", str(program), temporary=tmp_path) as process:
        out, err = await asyncio.wait_for(process.communicate(), SECONDS)
    assert process.returncode == 1
    assert "gateway ended with code 7" in json.loads(out)["error"]
    assert "no such luck" in err.decode()
