"""What Envoy does to headers: `HeaderValueOption`s and removals, level by level (envoy.config.core.v3)."""

import re
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction

from tests.simulate.fields import Message, at, flag, items, text
from tests.simulate.model import Edits, Headers, Request

_COMMAND = re.compile(r"%(?:%|(REQ|REQUEST_HEADER)\(([^)?]*)(?:\?([^)]*))?\)(?::(\d+))?%)")
_ADD = "APPEND_IF_EXISTS_OR_ADD"


_GRPC_UNITS = {"H": "3600", "M": "60", "S": "1", "m": "1/1000", "u": "1/1000000", "n": "1/1000000000"}


def grpc_timeout(value: str) -> Fraction:
    """Seconds of a `grpc-timeout` header; 0 if it is none."""
    if not value[:-1].isdigit() or len(value) > 9 or value[-1] not in _GRPC_UNITS:
        return Fraction(0)
    return int(value[:-1]) * Fraction(_GRPC_UNITS[value[-1]])


def with_header(headers: Headers, name: str, value: str) -> Headers:
    """Set a header, whatever it was."""
    return (*without(headers, name), (name, value))


def without(headers: Headers, name: str) -> Headers:
    """Take a header away."""
    return tuple(pair for pair in headers if pair[0] != name)


def edits_of(message: Message, side: str) -> Edits:
    """The `request_…` or `response_…` operations of a route, virtual host, weighted cluster or configuration."""
    return Edits(
        add=tuple(items(message, f"{side}_headers_to_add")),
        remove=tuple(name.lower() for name in items(message, f"{side}_headers_to_remove")),
    )


def _formatted(value: str, request: Request) -> str:
    """`%REQ(NAME?OTHER):LENGTH%` and `%%`. Other commands stay as they are."""

    def piece(found: re.Match[str]) -> str:
        if found[1] is None:
            return "%"
        values = request.values(found[2].lower()) or request.values((found[3] or "").lower())
        got = values[0] if values else ""  # formatted with empty values omitted
        return got[: int(found[4])] if found[4] else got

    return _COMMAND.sub(piece, value)


def apply_edits(headers: Headers, edits: Edits, request: Request) -> Headers:
    """One level: first removals, then what overwrites, then what is added, each in the order given.

    A value that comes out empty does nothing unless `keep_empty_value` says so.
    """
    for name in edits.remove:
        headers = without(headers, name)
    before = {name for name, _ in headers}
    added: list[tuple[str, str]] = []
    for option in edits.add:
        name = text(at(option, "header"), "key").lower()
        value = _formatted(text(at(option, "header"), "value"), request)
        action = text(option, "append_action", _ADD)
        if "append" in option:
            action = _ADD if flag(option, "append") else "OVERWRITE_IF_EXISTS_OR_ADD"
        if not value and not flag(option, "keep_empty_value"):
            continue
        if action == _ADD or (action == "ADD_IF_ABSENT" and name not in before):
            added.append((name, value))
        elif action == "OVERWRITE_IF_EXISTS_OR_ADD" or (action == "OVERWRITE_IF_EXISTS" and name in before):
            headers = with_header(headers, name, value)
    return (*headers, *added)


def apply_all(headers: Headers, levels: Iterable[Edits], request: Request) -> Headers:
    """All levels, in the order in which they are evaluated."""
    for edits in levels:
        headers = apply_edits(headers, edits, request)
    return headers


def edited(request: Request, edits: Edits) -> Request:
    """One level of operations on the request itself: formats see what the removals have left."""
    left = replace(request, headers=apply_edits(request.headers, Edits(remove=edits.remove), request))
    return replace(left, headers=apply_edits(left.headers, Edits(add=edits.add), left))
