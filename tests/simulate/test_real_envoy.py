"""What the simulator says of a compiled configuration is what a real Envoy does with it.

pytest tests/simulate/test_real_envoy.py --hypothesis-profile=search     # other examples each time
"""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.simulate import Connection, simulate
from tests.simulate.compare import mismatch
from tests.simulate.generate import Words, examples
from tests.simulate.rig import Rig, running
from tests.simulate.worlds import GATEWAY, SIDECAR, gateway_words, sidecar_words, virtual_services
from tests.xds.real_envoy import envoy_binary

pytestmark = pytest.mark.envoy
REQUESTS = 10
EXAMPLES = settings().max_examples * 6 // 10
"""For each kind of proxy: 600 requests by default."""


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    envoy_binary()
    with running(GATEWAY, tmp_path_factory.mktemp("gateway")) as rig:
        yield rig


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    envoy_binary()
    with running(SIDECAR, tmp_path_factory.mktemp("sidecar")) as rig:
        yield rig


def agree(rig: Rig, words: Words, data: st.DataObject) -> None:
    example = data.draw(examples(words, count=REQUESTS))
    resources = rig.load(virtual_services(example.specs))
    for port, request in example.requests:
        verdict = simulate(resources, Connection(destination="127.0.0.1", port=port), request)
        how = mismatch(verdict, request, rig.send(port, request))
        assert not how, f"{request} to {port}\n{how}"


many = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    phases=[Phase.generate],
    database=None,
)


@many
@given(data=st.data())
def test_at_a_gateway(gateway: Rig, data: st.DataObject) -> None:
    agree(gateway, gateway_words(gateway.ports), data)


@many
@given(data=st.data())
def test_at_a_sidecar(sidecar: Rig, data: st.DataObject) -> None:
    agree(sidecar, sidecar_words(sidecar.ports), data)
