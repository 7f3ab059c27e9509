"""Is what a real Envoy did among the outcomes of a verdict? Says what differs."""

from collections.abc import Iterable

from tests.simulate.local_reply import response_headers
from tests.simulate.model import Forward, Outcome, Reply, Request, Verdict
from tests.simulate.rig import UPSTREAM_HEADERS, Answer, Seen

_OWN = frozenset({
    "content-length", "date", "server", "connection", "transfer-encoding", "x-envoy-upstream-service-time",
    "x-envoy-decorator-operation",
})  # fmt: skip
"""Response headers that do not depend on routes."""
_ADDED = frozenset({
    "x-forwarded-proto", "x-request-id", "x-forwarded-for", "x-envoy-internal", "x-envoy-expected-rq-timeout-ms",
    "x-envoy-decorator-operation", "x-envoy-external-address", "content-length", "transfer-encoding", "connection",
})  # fmt: skip
"""Request headers that Envoy adds whatever the route."""


def _joined(headers: Iterable[tuple[str, str]], without: frozenset[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in headers:
        if name not in without:
            found[name] = f"{found[name]},{value}" if name in found else value
    return {name: value.replace(", ", ",") for name, value in found.items()}


def _differences(**pairs: tuple[object, object]) -> str:
    return "; ".join(f"{name}: want {want!r}, got {got!r}" for name, (want, got) in pairs.items() if want != got)


def difference(outcome: Outcome, sent: Request, got: Answer) -> str:
    """Empty if the answer is that outcome."""
    if isinstance(outcome, Reply):
        return _differences(
            status=(outcome.status, got.status),
            headers=(_joined(outcome.headers, _OWN), _joined(got.headers, _OWN)),
            body=(outcome.body, got.body),
        )
    if not isinstance(outcome, Forward):
        return f"want {outcome!r}, got {got!r}"
    headers = _joined(response_headers(outcome, UPSTREAM_HEADERS), _OWN), _joined(got.headers, _OWN)
    if sent.method == "HEAD":
        return _differences(status=(200, got.status), headers=headers)
    if got.seen is None:
        return f"want an answer of {outcome.cluster}, got {got!r}"
    return _differences(status=(200, got.status), headers=headers) or _upstream_difference(outcome, got.seen)


def _upstream_difference(outcome: Forward, seen: Seen) -> str:
    want, got = outcome.request, seen.request
    known = {endpoint.address for endpoint in outcome.endpoints}
    if seen.upstream not in known:
        return f"want one of {sorted(known)} ({outcome.cluster}), got {seen.upstream}"
    return _differences(
        method=(want.method, got.method),
        path=(want.path, got.path),
        authority=(want.authority, got.authority),
        request_headers=(_joined(want.headers, _ADDED), _joined(got.headers, _ADDED)),
    )


def mismatch(verdict: Verdict, sent: Request, got: Answer) -> str:
    """Empty if one of the outcomes is what happened; else how each of them differs, with its steps."""
    assert sum(chance.probability for chance in verdict) == 1
    found = []
    for chance in verdict:
        how = difference(chance.outcome, sent, got)
        if not how:
            return ""
        found.append(f"{chance.probability}: {how}\n    " + "\n    ".join(map(str, chance.steps)))
    return "\n".join(found)
