"""Fixtures for tests with a real Envoy: the binary, and what needs root and iptables."""

import os
from pathlib import Path

import pytest

from pypilot.cli.demo.envoy import EnvoyNotFoundError, find_envoy
from pypilot.cli.demo.netns import why_unavailable


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
