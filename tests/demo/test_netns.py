"""Why interception may be unavailable. The real thing is in e2e/test_interception.py."""

import os
import shutil
import sys

import pytest

from pypilot.cli.demo.netns import NamespaceError, run, why_unavailable


@pytest.fixture
def root_on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr("pypilot.cli.demo.netns._capabilities", lambda: (1 << 41) - 1)


def test_another_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert why_unavailable() == "needs Linux network namespaces, this is darwin"


@pytest.mark.usefixtures("root_on_linux")
def test_not_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert why_unavailable() == "needs root"


@pytest.mark.usefixtures("root_on_linux")
def test_the_root_of_a_plain_container(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pypilot.cli.demo.netns._capabilities", lambda: 0xA80425FB)
    assert why_unavailable() == "needs the capabilities CAP_NET_ADMIN and CAP_SYS_ADMIN, which root lacks here"


@pytest.mark.usefixtures("root_on_linux")
@pytest.mark.parametrize(
    ("there", "reason"),
    [
        ({"ip", "iptables", "iptables-restore"}, None),
        ({"ip"}, "needs iptables and iptables-restore, not found here"),
        ({"iptables", "iptables-restore"}, "needs ip, not found here"),
    ],
)
def test_missing_tools_are_named(monkeypatch: pytest.MonkeyPatch, there: set[str], reason: str | None) -> None:
    monkeypatch.setattr(shutil, "which", lambda tool, path=None: f"/sbin/{tool}" if tool in there else None)
    assert why_unavailable() == reason


async def test_a_failing_tool_is_quoted() -> None:
    with pytest.raises(NamespaceError, match=r"ls --no-such-option: .*no-such-option"):
        await run("ls", "--no-such-option")
    with pytest.raises(NamespaceError, match="no-such-tool not found"):
        await run("no-such-tool")
