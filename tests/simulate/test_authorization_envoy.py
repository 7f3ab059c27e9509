"""What the simulator says of compiled security policies is what a real Envoy does with them.

pytest tests/simulate/test_authorization_envoy.py --hypothesis-profile=thorough     # many, and others each time
"""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from tests.simulate import Forward, Reply, Tunnel, simulate
from tests.simulate.authz_worlds import (
    HTTP_CLUSTER,
    TCP_CLUSTER,
    Place,
    base_world,
    compiled,
    connection,
    request,
)
from tests.simulate.fields import Message
from tests.simulate.generate_authz import Example, examples
from tests.simulate.model import Verdict
from tests.simulate.rig import free_ports
from tests.simulate.static_rig import ECHO, Got, Identities, Sent, run
from tests.xds.real_envoy import envoy_binary

pytestmark = pytest.mark.envoy
ASKS = 10
EXAMPLES = min(settings().max_examples * 2, 1000)
"""2,000 connections by default."""


def difference(verdict: Verdict, sent: Sent, got: Got) -> str:
    """Empty if that is what happened."""
    outcome = verdict.outcome
    if isinstance(outcome, Tunnel):
        return "" if got.body == ECHO else f"want {ECHO!r}"
    if isinstance(outcome, Forward):
        return "" if (got.status, got.from_upstream) == (200, True) else "want an answer of the upstream"
    if not isinstance(outcome, Reply):
        return "want the connection closed" if got.body else ""
    want = (outcome.status, outcome.body, False)
    if (got.status, got.body, got.from_upstream) != want:
        return f"want {want}"
    return "" if got.details.startswith(outcome.details) else f"want {outcome.details}"


def generated(ports: tuple[int, ...]) -> list[Example]:
    found: list[Example] = []

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        phases=[Phase.generate],
        database=None,
    )
    @given(example=examples(ports, ASKS))
    def gather(example: Example) -> None:
        found.append(example)

    gather()
    return found


def test_decisions(tmp_path: Path) -> None:
    envoy_binary()
    web, raw, web_tls, raw_tls = ports = free_ports(4)
    identities = Identities(tmp_path)
    tls = identities.server()
    world = base_world((web, raw))
    listeners: list[Message] = []
    asks: list[Sent] = []
    verdicts: list[tuple[Verdict, Example]] = []
    for i, example in enumerate(generated(ports)):
        place = Place(f"127.77.{i // 250}.{i % 250 + 1}", (web, raw), (web_tls, raw_tls))
        resources = compiled(world, example, place, tls)
        listeners += resources.listeners.values()
        for ask in example.asks:
            sent = Sent(connection(ask, place), request(ask, example.authentications))
            asks.append(sent)
            verdicts.append((simulate(resources, sent.connection, sent.request), example))
    wrong = []
    answers = run(listeners, (HTTP_CLUSTER, TCP_CLUSTER), asks, identities)
    for sent, (verdict, example), got in zip(asks, verdicts, answers, strict=True):
        if how := difference(verdict, sent, got):
            steps = "\n    ".join(map(str, verdict.steps))
            wrong.append(f"{sent}\n  {how}, got {got}\n    {steps}\n    {example.policies} {example.authentications}")
    assert len(asks) >= EXAMPLES * ASKS
    assert not wrong, f"{len(wrong)} of {len(asks)} differ; the first:\n" + "\n".join(wrong[:3])
