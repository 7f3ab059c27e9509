"""An AdmissionReview answered with what the parser of `pypilot validate` finds. Pure.

It rejects what that rejects, and what that warns of as refused by Istio's webhook.

Source: admission.k8s.io/v1; VAL-001.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from pypilot.compile.envoy_filters.values import value_findings
from pypilot.kinds import kind_of
from pypilot.kinds.base import Finding
from pypilot.kinds.envoy_filter import EnvoyFilter
from pypilot.kinds.parse import parse_object
from pypilot.kinds.refusals import REFUSED

_VERSION = "admission.k8s.io/v1"
_LONGEST_WARNING = 250
"""Characters; the API server cuts warnings of more than 256."""
_MOST_WARNINGS = 15
"""It drops them all beyond 4096 characters."""
_LONGEST_MESSAGE = 16_384
_DENIED = (REFUSED, "no-subnet")
"""Codes of warnings for which an object is denied."""


class MalformedError(Exception):
    """This is no AdmissionReview that can be answered."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What there is to say about an object; it is rejected if there are errors."""

    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


Check = Callable[[Mapping[str, Any]], Verdict]


def check_object(data: Mapping[str, Any]) -> Verdict:
    """The findings in one object; a kind that pypilot does not read is nobody's fault."""
    kind = kind_of(str(data.get("apiVersion", "")), str(data.get("kind", "")))
    if kind is None:
        return Verdict()
    metadata = data.get("metadata")
    if isinstance(metadata, Mapping) and metadata.get("generateName") and not metadata.get("name"):
        data = {**data, "metadata": {**metadata, "name": f"{metadata['generateName']}x"}}
    parsed = parse_object(kind, data)
    findings = list(parsed.findings)
    if isinstance(parsed.object, EnvoyFilter):
        findings += value_findings(parsed.object)
    return Verdict(
        tuple(dict.fromkeys(_text(f) for f in findings if _denies(f))),
        tuple(dict.fromkeys(f"{_text(f)} [{f.code}]" for f in findings if not _denies(f))),
    )


def _denies(finding: Finding) -> bool:
    """True for errors, and for what could be served but Istio's webhook refuses (VAL-002)."""
    return finding.severity == "error" or finding.code in _DENIED


def _text(finding: Finding) -> str:
    return f"{finding.field}: {finding.message}" if finding.field else finding.message


def answer(review: Any, check: Check = check_object) -> dict[str, Any]:
    """The AdmissionReview to send back.

    Raises:
        MalformedError: nothing can be said about this.
    """
    request = request_of(review)
    verdict = Verdict()
    if request.get("operation") in ("CREATE", "UPDATE"):
        data = request.get("object")
        if not isinstance(data, Mapping):
            raise MalformedError("request.object is missing")
        verdict = _guarded(check, data)
    more: dict[str, Any] = {}
    if verdict.warnings:
        more["warnings"] = [text[:_LONGEST_WARNING] for text in verdict.warnings[:_MOST_WARNINGS]]
    return denied(request, "; ".join(verdict.errors), **more) if verdict.errors else response(request, **more)


def request_of(review: Any) -> Mapping[str, Any]:
    """The request of an AdmissionReview.

    Raises:
        MalformedError: there is none that can be answered.
    """
    request = review.get("request") if isinstance(review, Mapping) else None
    if not isinstance(request, Mapping) or review.get("kind") != "AdmissionReview":
        raise MalformedError("not an AdmissionReview with a request")
    if review.get("apiVersion") != _VERSION:
        raise MalformedError(f"apiVersion must be {_VERSION}")
    uid = request.get("uid")
    if not isinstance(uid, str) or not uid:
        raise MalformedError("request.uid is missing")
    return request


def response(request: Mapping[str, Any], *, allowed: bool = True, **more: Any) -> dict[str, Any]:
    """An AdmissionReview that allows what was asked, and says more."""
    answered = {"uid": request["uid"], "allowed": allowed, **more}
    return {"apiVersion": _VERSION, "kind": "AdmissionReview", "response": answered}


def denied(request: Mapping[str, Any], message: str, **more: Any) -> dict[str, Any]:
    """One that does not, and says why."""
    status = {"status": "Failure", "code": 422, "reason": "Invalid", "message": message[:_LONGEST_MESSAGE]}
    return response(request, allowed=False, status=status, **more)


def _guarded(check: Check, data: Mapping[str, Any]) -> Verdict:
    """A defect of ours must not keep anybody from writing an object."""
    try:
        return check(data)
    except Exception as error:
        kind = str(data.get("kind"))
        structlog.get_logger("pypilot.webhook").error("an object could not be checked", kind=kind, error=repr(error))
        return Verdict(warnings=("pypilot could not check this object",))
