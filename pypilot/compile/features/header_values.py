"""Which header values Envoy can take: `%COMMAND(ARGUMENTS):LENGTH%` is replaced, `%%` is a percent sign.

Envoy rejects a whole RouteConfiguration for one value that it cannot read, so pilot has to know. Source:
https://www.envoyproxy.io/docs/envoy/latest/configuration/advanced/substitution_formatter (checked with Envoy 1.40).
"""

import re

from pypilot.compile.features.text import is_sendable

_COMMAND = re.compile(r"%(?:%|(?P<name>[A-Z0-9_]+)(?P<arguments>\([^)]*\))?(?P<length>:[0-9]+)?%)")

_FAMILIES = ("DOWNSTREAM_", "UPSTREAM_", "REQUEST_", "RESPONSE_")
# fmt: off
_WITH_ARGUMENTS = frozenset({
    "CEL", "CLUSTER_METADATA", "COMMON_DURATION", "DYNAMIC_METADATA", "ENVIRONMENT", "FILTER_STATE",
    "PER_REQUEST_STATE", "QUERY_PARAM", "REQ", "REQUEST_HEADER", "RESP", "RESPONSE_HEADER", "RESPONSE_TRAILER",
    "STREAM_INFO_REQ", "TRAILER", "TYPED_CEL", "UPSTREAM_FILTER_STATE", "UPSTREAM_METADATA",
})
_PLAIN = frozenset({
    "ACCESS_LOG_TYPE", "BYTES_RECEIVED", "BYTES_RETRANSMITTED", "BYTES_SENT", "CONNECTION_ID",
    "CONNECTION_TERMINATION_DETAILS", "CUSTOM_FLAGS", "DURATION", "FILTER_CHAIN_NAME", "GRPC_STATUS",
    "GRPC_STATUS_NUMBER", "HOSTNAME", "LISTENER_NAME", "LOCAL_REPLY_BODY", "PACKETS_RETRANSMITTED", "PATH",
    "PROTOCOL", "QUERY_PARAMS", "REQUESTED_SERVER_NAME", "ROUNDTRIP_DURATION", "ROUTE_NAME", "SPAN_ID", "STREAM_ID",
    "TLS_JA3_FINGERPRINT", "TLS_JA4_FINGERPRINT", "TRACE_ID", "UNIQUE_ID", "VIRTUAL_CLUSTER_NAME",
})
# fmt: on
_EITHER = frozenset({"START_TIME", "START_TIME_LOCAL", "EMIT_TIME", "EMIT_TIME_LOCAL", "PATH"})


def _is_known(command: re.Match[str]) -> bool:
    name, arguments = command["name"], command["arguments"]
    if name is None:
        return True
    if name in _EITHER:
        return command["length"] is None
    if name in _WITH_ARGUMENTS:
        return arguments is not None and arguments != "()"
    if name in _PLAIN:
        return arguments is None and command["length"] is None
    return name.startswith(_FAMILIES)


def is_header_value(value: str) -> bool:
    """True if Envoy accepts the text as value of a header that it adds."""
    if not is_sendable(value):
        return False
    return "%" not in _COMMAND.sub("", value) and all(_is_known(found) for found in _COMMAND.finditer(value))


def is_header_name(name: str) -> bool:
    """True if Envoy accepts the text as a header's name."""
    return bool(name) and is_sendable(name)
