"""The real Envoy takes every listener of the golden cases.

Compiled for upstream Envoy, with and without mesh certificates, as they are; compiled for Istio's build without the few
filters that only Istio's build has.
"""

import dataclasses
import os
from pathlib import Path

import pytest
from envoy.config.listener.v3 import listener_pb2

from pypilot.compile.listeners import compile_listeners
from pypilot.wire.node import Proxy
from pypilot.world.reader import Reader
from tests import golden
from tests.compile.listeners.decoding import MANAGER, Manager, chains, decode
from tests.compile.listeners.envoy import refusal

CASES = [name for name in golden.cases() if name.startswith(("listeners/", "gateways/"))]
ISTIO_FILTERS = ("istio.", "waypoint_downstream_peer_metadata", "connect_authority")


def variants(proxy: Proxy) -> dict[str, Proxy]:
    upstream = dataclasses.replace(proxy, extensions=frozenset({"envoy.filters.http.router"}))
    return {
        "upstream": upstream,
        "upstream-with-certificates": dataclasses.replace(upstream, workload_sds=True),
        "istio": dataclasses.replace(proxy, extensions=None, istio_version="1.30.0"),
    }


def without_istio_filters(listener: listener_pb2.Listener) -> listener_pb2.Listener:
    for chain in chains(listener):
        kept = [f for f in chain.filters if not f.name.startswith(ISTIO_FILTERS)]
        for network_filter in kept:
            if network_filter.name == MANAGER:
                manager = Manager()
                network_filter.typed_config.Unpack(manager)
                own = [f for f in manager.http_filters if not f.name.startswith(ISTIO_FILTERS)]
                del manager.http_filters[:]
                manager.http_filters.extend(own)
                network_filter.typed_config.Pack(manager)
        del chain.filters[:]
        chain.filters.extend(kept)
    return listener


@pytest.mark.envoy
@pytest.mark.parametrize("variant", ["upstream", "upstream-with-certificates", "istio"])
@pytest.mark.parametrize("name", CASES)
def test_envoy_accepts_the_listeners(name: str, variant: str, tmp_path: Path) -> None:
    case = golden.read_case((golden.ROOT / name / "in.yaml").read_text())
    compiled = [decode(r) for r in compile_listeners(Reader(case.world), variants(case.proxy)[variant])]
    if variant == "istio":
        compiled = [without_istio_filters(listener) for listener in compiled]
    assert compiled or "upstream" in variant
    assert not refusal(compiled, tmp_path, os.environ)
