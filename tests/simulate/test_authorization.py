"""Meaning is kept: what security policies say is what the simulator finds in the filters that they were compiled to."""

from hypothesis import HealthCheck, Phase, given, settings

from tests.simulate import Forward, Reply, Tunnel, simulate
from tests.simulate.authz_worlds import MESH, WORKLOAD, Place, asked, base_world, compiled, connection, request
from tests.simulate.generate_authz import Example, examples
from tests.simulate.istio_authz import interpret
from tests.simulate.model import Outcome

PLACE = Place("127.77.0.1", (8080, 9000), (8443, 9443))
PORTS = (*PLACE.ports, *PLACE.tls_ports)
ASKS = 10
WORLD = base_world(PLACE.ports)


def answer(outcome: Outcome) -> str:
    """In the words of the interpreter."""
    if isinstance(outcome, Forward | Tunnel):
        return "allowed"
    if isinstance(outcome, Reply) and outcome.details.startswith("jwt_authn"):
        return "unauthenticated"
    assert "rbac_access_denied" in outcome.details, outcome
    return "denied"


@settings(
    max_examples=settings().max_examples * 5,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    phases=[Phase.generate],
    database=None,
)
@given(example=examples(PORTS, ASKS))
def test_meaning_is_kept(example: Example) -> None:
    resources = compiled(WORLD, example, PLACE, {})
    for ask in example.asks:
        sent = request(ask, example.authentications)
        verdict = simulate(resources, connection(ask, PLACE), sent)
        want = interpret(example.policies, example.authentications, WORKLOAD, MESH, asked(ask, PLACE, example.trusted))
        steps = "\n    ".join(map(str, verdict.steps))
        assert answer(verdict.outcome) == want, f"{sent} over {connection(ask, PLACE)}: want {want}\n    {steps}"
