"""What a Sidecar no longer imports is taken away from a proxy that is connected (SC-019)."""

import pytest

from pypilot.compile.generators import GENERATORS
from pypilot.engine.memo import Memo
from pypilot.wire.types import CLUSTER, ENDPOINT
from pypilot.world.advance import advance
from pypilot.world.delta import Delta
from pypilot.world.world import World
from pypilot.xds.delta import DeltaSession
from pypilot.xds.session import DeltaRequest, SotwRequest
from pypilot.xds.shared import Shared
from pypilot.xds.sotw import SotwSession
from tests.golden import node
from tests.world.objects import make, service

PROXY = node({"namespace": "clients"})
KEPT, GONE = "outbound|80||a.shop.svc.cluster.local", "outbound|80||b.shop.svc.cluster.local"


class Narrowing:
    def __init__(self) -> None:
        self.world = advance(World(), Delta(upserts=(service("a", "shop"), service("b", "shop"), self.sidecar("*/*"))))
        self.memo = Memo(self.world)

    def sidecar(self, host: str):
        return make("Sidecar", "default", "clients", spec={"egress": [{"hosts": [host]}]})

    def narrow(self) -> None:
        self.world = advance(self.world, Delta(upserts=(self.sidecar("shop/a.shop.svc.cluster.local"),)))
        self.memo.advance(self.world, self.world.changed)

    def current(self, type_url: str):
        return self.memo.root(GENERATORS[type_url], PROXY)


@pytest.fixture
def narrowing() -> Narrowing:
    return Narrowing()


def test_incremental_streams_are_told_what_is_removed(narrowing: Narrowing) -> None:
    session = DeltaSession(Shared())
    session.on_request(DeltaRequest(CLUSTER))
    session.on_request(DeltaRequest(ENDPOINT, subscribe=frozenset({KEPT, GONE})))
    sent = session.push(narrowing.current)
    assert {KEPT, GONE} <= sent[0].frames.all_names()
    narrowing.narrow()
    removed = {response.type_url: response.removed for response in session.push(narrowing.current)}
    assert removed == {CLUSTER: (GONE,), ENDPOINT: (GONE,)}


def test_other_streams_miss_it_in_the_next_complete_answer(narrowing: Narrowing) -> None:
    session = SotwSession(Shared())
    session.on_request(SotwRequest(CLUSTER))
    first = session.push(narrowing.current)[0]
    narrowing.narrow()
    second = session.push(narrowing.current)[0]
    assert first.frames.all_names() - second.frames.all_names() == {GONE}
    assert KEPT in second.frames.all_names()
