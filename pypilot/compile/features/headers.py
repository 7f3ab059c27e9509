"""Header operations: `http[].headers`, `http[].route[].headers` (VS-064…066).

`:authority` and `host` cannot be changed as headers: they become a rewrite of the host. Other pseudo headers stay as
they are, and an operation that Envoy would reject is left out.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from envoy.config.core.v3 import base_pb2
from envoy.config.route.v3 import route_components_pb2 as routes

from pypilot.compile.features.header_values import is_header_name, is_header_value
from pypilot.kinds.virtual_service import HeaderOperations, Headers

_AUTHORITY = frozenset({":authority", "host"})
_NO_OPERATIONS = HeaderOperations()


class HeaderEdits(NamedTuple):
    """The operations of one `headers` message in Envoy's terms."""

    request_add: Sequence[base_pb2.HeaderValueOption] = ()
    request_remove: Sequence[str] = ()
    response_add: Sequence[base_pb2.HeaderValueOption] = ()
    response_remove: Sequence[str] = ()
    authority: str = ""
    """What the upstream shall see as host; empty for no change."""


def _is_pseudo(name: str) -> bool:
    return name.startswith(":") or name.lower() == "host"


def _options(headers: Mapping[str, str], append: bool) -> list[base_pb2.HeaderValueOption]:
    action = (
        base_pb2.HeaderValueOption.APPEND_IF_EXISTS_OR_ADD
        if append
        else base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
    )
    return [
        base_pb2.HeaderValueOption(header=base_pb2.HeaderValue(key=key, value=value), append_action=action)
        for key, value in sorted(headers.items())
        if not _is_pseudo(key) and is_header_name(key) and is_header_value(value)
    ]


def _authority(headers: Mapping[str, str]) -> str:
    found = [v for k, v in sorted(headers.items()) if k.lower() in _AUTHORITY and is_header_name(v)]
    return found[-1] if found else ""


def _removals(operations: HeaderOperations) -> list[str]:
    return [name for name in operations.remove if not _is_pseudo(name) and is_header_name(name)]


def header_edits(headers: Headers | None) -> HeaderEdits:
    """`set` before `add`, each in key order (VS-066); `set` decides about the authority (VS-065)."""
    if headers is None:
        return HeaderEdits()
    request = headers.request or _NO_OPERATIONS
    response = headers.response or _NO_OPERATIONS
    return HeaderEdits(
        request_add=_options(request.set, append=False) + _options(request.add, append=True),
        request_remove=_removals(request),
        response_add=_options(response.set, append=False) + _options(response.add, append=True),
        response_remove=_removals(response),
        authority=_authority(request.set) or _authority(request.add),
    )


def apply_headers(target: routes.Route | routes.WeightedCluster.ClusterWeight, edits: HeaderEdits) -> None:
    """Append the operations to those that a route or a weighted destination already has."""
    target.request_headers_to_add.extend(edits.request_add)
    target.request_headers_to_remove.extend(edits.request_remove)
    target.response_headers_to_add.extend(edits.response_add)
    target.response_headers_to_remove.extend(edits.response_remove)
