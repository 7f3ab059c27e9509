"""The last good credentials: a bad one never reaches the world, and so never a proxy.

A certificate that does not match its key, cannot be read, or is expired is replaced by the last good object of that
name, or left out if there was none; either way it is reported. The keeper stands before `advance`. Messages never
contain key material. Secrets that are not about TLS pass unchecked.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

from pypilot.compile.credentials import (
    Rejection,
    ca_of,
    check_ca,
    check_pair,
    check_revocations,
    half_pair,
    pair_of,
)
from pypilot.kinds.base import Object, Ref, Severity
from pypilot.kinds.secret import Secret
from pypilot.world.delta import Delta, Problem

CODE = "credential"


class CredentialGuard:
    """Keeps the last good Secret of every name. Owned by the engine."""

    def __init__(self, now: Callable[[], float]) -> None:
        """Take the clock: a function that gives Unix seconds."""
        self._now = now
        self._good: dict[Ref, Secret] = {}
        self._problems: dict[Ref, tuple[Problem, ...]] = {}

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong now: a problem goes when its Secret is mended or removed."""
        return tuple(problem for ref in sorted(self._problems) for problem in self._problems[ref])

    def admit(self, delta: Delta) -> tuple[Delta, tuple[Problem, ...]]:
        """The delta without bad credentials, and every problem that stands after it."""
        for ref in delta.removals:
            self._good.pop(ref, None)
            self._problems.pop(ref, None)
        if not any(isinstance(obj, Secret) for obj in delta.upserts):
            return delta, self.problems
        kept: list[Object] = []
        left_out: set[Ref] = set()
        for obj in delta.upserts:
            admitted: Object | None = obj
            if isinstance(obj, Secret):
                admitted = self._judge(obj, delta)
            if admitted is None:
                left_out.add(obj.ref)
            else:
                kept.append(admitted)
        origins = {ref: origin for ref, origin in delta.origins.items() if ref not in left_out}
        return replace(delta, upserts=tuple(kept), origins=origins), self.problems

    def _judge(self, secret: Secret, delta: Delta) -> Secret | None:
        """The Secret to use: itself, the last good one, or none. Notes what is wrong with it."""
        verdicts = [*self._pair_verdicts(secret), *self._ca_verdicts(secret)]
        bad = any(severity == "error" for _, _, severity in verdicts)
        if not bad:
            self._good.pop(secret.ref, None)
            if pair_of(secret) is not None or ca_of(secret) is not None:
                self._good[secret.ref] = secret
        good = self._good.get(secret.ref) if bad else secret
        outcome = ""
        if bad:
            outcome = "; the last good one stays in use" if good is not None else "; nothing is served under this name"
        problems = tuple(
            Problem(
                reason + (outcome if severity == "error" else ""),
                severity,
                CODE,
                secret.ref,
                field,
                delta.origins.get(secret.ref),
            )
            for field, reason, severity in verdicts
        )
        if problems:
            self._problems[secret.ref] = problems
        else:
            self._problems.pop(secret.ref, None)
        return good

    def _pair_verdicts(self, secret: Secret) -> list[tuple[str, str, Severity]]:
        pair = pair_of(secret)
        if pair is None:
            missing = half_pair(secret)
            return [(_field(secret, missing), f"{missing} is missing or empty", "error")] if missing else []
        checked = check_pair(pair.certificate, pair.private_key)
        if isinstance(checked, Rejection):
            key = pair.private_key_key if checked.blames_key else pair.certificate_key
            return [(_field(secret, key), checked.reason, "error")]
        now = self._now()
        where = _field(secret, pair.certificate_key)
        if now > checked.not_after:
            return [(where, f"the certificate expired at {_when(checked.not_after)}", "error")]
        if now < checked.not_before:
            return [(where, f"the certificate is not valid before {_when(checked.not_before)}", "warning")]
        return []

    def _ca_verdicts(self, secret: Secret) -> list[tuple[str, str, Severity]]:
        ca = ca_of(secret)
        if ca is None:
            return []
        found: list[tuple[str, str, Severity]] = []
        checked = check_ca(ca.certificates)
        where = _field(secret, ca.certificates_key)
        if isinstance(checked, Rejection):
            found.append((where, checked.reason, "error"))
        elif self._now() > checked.not_after:
            found.append(
                (where, f"every CA certificate has expired, the last at {_when(checked.not_after)}", "warning")
            )
        if ca.revocations and (rejection := check_revocations(ca.revocations)) is not None:
            found.append((_field(secret, ca.revocations_key), rejection.reason, "error"))
        return found


def _field(secret: Secret, key: str) -> str:
    """The path of a key, where the user wrote it."""
    return f"stringData.{key}" if key in secret.string_data else f"data.{key}"


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
