"""Fixtures for tests with a real Envoy: the binary, and what needs root and iptables."""

import os
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from pypilot.cli.demo.envoy import EnvoyNotFoundError, find_envoy
from pypilot.cli.demo.netns import why_unavailable

_SHARING = ("e2e/kube/", "e2e/images/", "e2e/cluster/", "e2e/outcomes/", "e2e/mesh/")
"""Tests that share something large, which each worker that has some of them would start for itself."""


class OneWorkerForWhatIsShared(LoadScopeScheduling):
    """As by default, but the tests that share an API server, images or an installation are all for one worker."""

    def _split_scope(self, nodeid: str) -> str:
        return next((place for place in _SHARING if nodeid.startswith(place)), nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """Only where no other distribution was asked for."""
    return OneWorkerForWhatIsShared(config, log) if config.getvalue("dist") == "load" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what this machine cannot run, with the reason."""
    reasons = {"envoy": _why_no_envoy(), "netns": why_unavailable()}
    for item in items:
        for marker, reason in reasons.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def _why_no_envoy() -> str | None:
    try:
        find_envoy(os.environ)
    except EnvoyNotFoundError as error:
        return str(error)
    return None


@pytest.fixture(scope="session")
def envoy_binary() -> Path:
    """The Envoy to run."""
    return find_envoy(os.environ)
