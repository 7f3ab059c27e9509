import pytest

from pypilot.engine.last_good import CODE, CredentialGuard
from pypilot.kinds.base import Object, Origin
from pypilot.kinds.secret import Secret
from pypilot.world.delta import Delta, Problem
from tests.compile.secrets.certs import DAY, NOON, Pair, new_pair
from tests.world.objects import make, service

GOOD, BETTER = new_pair(), new_pair()
CROSSED = Pair(GOOD.certificate, BETTER.key)
EXPIRED = new_pair(start=NOON - 9 * DAY, end=NOON - DAY)
FUTURE = new_pair(start=NOON + DAY, end=NOON + 9 * DAY)


def secret(pair: Pair | None = None, name: str = "shop", **values: str) -> Object:
    data = {"tls.crt": pair.certificate, "tls.key": pair.key} if pair is not None else {}
    return make("Secret", name, "infra", stringData={**data, **{k.replace("_", "."): v for k, v in values.items()}})


@pytest.fixture
def guard() -> CredentialGuard:
    return CredentialGuard(lambda: NOON.timestamp())


def admit(guard: CredentialGuard, *objects: Object) -> tuple[tuple[Object, ...], tuple[Problem, ...]]:
    delta, problems = guard.admit(Delta(upserts=objects))
    return delta.upserts, problems


@pytest.mark.parametrize(
    ("bad", "field", "reason"),
    [
        (secret(CROSSED), "stringData.tls.key", "the certificate and the private key do not match"),
        (secret(EXPIRED), "stringData.tls.crt", "the certificate expired at 2026-05-31T12:00:00Z"),
        (secret(Pair("x", GOOD.key)), "stringData.tls.crt", "not a PEM certificate chain"),
        (secret(Pair(GOOD.certificate, "x")), "stringData.tls.key", "not a PEM private key"),
        (secret(Pair(GOOD.certificate, "")), "stringData.tls.key", "tls.key is missing or empty"),
        (secret(GOOD, ca_crt="x"), "stringData.ca.crt", "not PEM certificates"),
        (secret(GOOD, ca_crt=GOOD.certificate, ca_crl="x"), "stringData.ca.crl", "revocation list"),
    ],
)
def test_the_last_good_one_stays(guard: CredentialGuard, bad: Object, field: str, reason: str) -> None:
    good = secret(GOOD)
    assert admit(guard, good) == ((good,), ())
    upserts, (problem,) = admit(guard, bad)
    assert upserts == (good,)
    assert (problem.ref, problem.field, problem.severity, problem.code) == (bad.ref, field, "error", CODE)
    assert reason in problem.message
    assert problem.message.endswith("; the last good one stays in use")
    better = secret(BETTER)
    assert admit(guard, better) == ((better,), ())


def test_without_a_good_one_nothing_is_served(guard: CredentialGuard) -> None:
    neighbour = service("a", "infra")
    origin = Origin("shop.yaml", 7)
    delta = Delta(upserts=(secret(CROSSED), neighbour), origins={secret(CROSSED).ref: origin})
    admitted, (problem,) = guard.admit(delta)
    assert admitted.upserts == (neighbour,)
    assert secret(CROSSED).ref not in admitted.origins
    assert problem.origin == origin
    assert problem.message.endswith("; nothing is served under this name")


def test_a_problem_stands_until_it_is_mended(guard: CredentialGuard) -> None:
    admit(guard, secret(CROSSED), secret(CROSSED, "other"))
    _, problems = admit(guard, service("a"))
    assert [p.ref.name for p in problems if p.ref] == ["other", "shop"]
    _, problems = admit(guard, secret(GOOD))
    assert [p.ref.name for p in problems if p.ref] == ["other"]
    _, problems = guard.admit(Delta(removals=(secret(None, "other").ref,)))
    assert problems == ()


def test_a_removed_secret_is_forgotten(guard: CredentialGuard) -> None:
    admit(guard, secret(GOOD))
    delta, _ = guard.admit(Delta(removals=(secret(GOOD).ref,)))
    assert delta.removals == (secret(GOOD).ref,)
    assert admit(guard, secret(CROSSED))[0] == ()


def test_a_certificate_of_tomorrow_is_only_a_warning(guard: CredentialGuard) -> None:
    upserts, (problem,) = admit(guard, secret(FUTURE))
    assert upserts == (secret(FUTURE),)
    assert problem.severity == "warning"
    assert problem.message == "the certificate is not valid before 2026-06-02T12:00:00Z"


def test_an_expired_ca_is_only_a_warning(guard: CredentialGuard) -> None:
    upserts, (problem,) = admit(guard, secret(GOOD, ca_crt=EXPIRED.certificate))
    assert len(upserts) == 1
    assert (problem.severity, problem.field) == ("warning", "stringData.ca.crt")


@pytest.mark.parametrize("values", [{"password": "x"}, {"key": "an API key"}, {"_dockerconfigjson": "{}"}])
def test_other_secrets_pass_unchecked(guard: CredentialGuard, values: dict[str, str]) -> None:
    other = secret(None, **values)
    assert admit(guard, other) == ((other,), ())


def test_expiry_is_judged_when_a_secret_comes_in() -> None:
    """SDS-008: unlike Istio, which counts it and sends it on: an expired certificate fails every handshake."""
    now = NOON
    guard = CredentialGuard(lambda: now.timestamp())
    short = secret(new_pair(start=NOON - DAY, end=NOON + DAY))
    assert admit(guard, short) == ((short,), ())
    now = NOON + 2 * DAY
    upserts, problems = admit(guard, short)
    assert upserts == (short,), "the last good one stays, even if its time is over"
    assert len(problems) == 1


def test_no_message_holds_key_material(guard: CredentialGuard) -> None:
    pieces = [line for pair in (GOOD, BETTER, EXPIRED) for line in "".join(pair).splitlines() if "-----" not in line]
    bad = [secret(CROSSED), secret(EXPIRED, "b"), secret(Pair(GOOD.certificate, GOOD.key[:-40]), "c")]
    upserts, problems = admit(guard, *bad)
    text = repr(problems) + "".join(map(str, problems)) + repr(upserts) + repr(guard.__dict__)
    assert len(problems) == 3
    assert not [piece for piece in pieces if piece in text]


def test_a_good_secret_is_the_same_object(guard: CredentialGuard) -> None:
    good = secret(GOOD)
    assert isinstance(good, Secret)
    assert admit(guard, good)[0][0] is good
