"""Fault injection: `http[].fault` (VS-070, VS-071)."""

from envoy.config.route.v3 import route_components_pb2 as routes
from envoy.extensions.filters.common.fault.v3 import fault_pb2 as common
from envoy.extensions.filters.http.fault.v3 import fault_pb2

from pypilot.compile.features.percent import fraction, whole
from pypilot.compile.messages import duration, pack
from pypilot.kinds.virtual_service import FaultAbort, FaultDelay, HTTPFaultInjection, HTTPRoute

FILTER = "envoy.filters.http.fault"

_GRPC_CODES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
"""Names in the order of their numbers (https://grpc.io/docs/guides/status-codes/)."""


def _delay(delay: FaultDelay) -> common.FaultDelay | None:
    """None without a fixed delay (the exponential one is not supported); Envoy rejects a delay of 0s."""
    if delay.fixed_delay is None or delay.fixed_delay.nanos <= 0:
        return None
    percentage = fraction(delay.percentage) if delay.percentage is not None else whole(delay.percent)
    return common.FaultDelay(fixed_delay=duration(delay.fixed_delay), percentage=percentage)


def _abort(abort: FaultAbort) -> fault_pb2.FaultAbort | None:
    """None without a status that Envoy can send (`http2Error` is not supported)."""
    out = fault_pb2.FaultAbort()
    if abort.percentage is not None:
        out.percentage.CopyFrom(fraction(abort.percentage))
    if abort.http_status is not None:
        if not 200 <= abort.http_status < 600:
            return None
        out.http_status = abort.http_status
    elif abort.grpc_status is not None and abort.grpc_status.upper() in _GRPC_CODES:
        out.grpc_status = _GRPC_CODES.index(abort.grpc_status.upper())
    else:
        return None
    return out


def http_fault(fault: HTTPFaultInjection) -> fault_pb2.HTTPFault:
    """The per-route configuration: empty, which does nothing, if nothing of the fault can be done (VS-071)."""
    delay = _delay(fault.delay) if fault.delay is not None else None
    abort = _abort(fault.abort) if fault.abort is not None else None
    return fault_pb2.HTTPFault(delay=delay, abort=abort)


def apply_fault(route: routes.Route, rule: HTTPRoute) -> None:
    """Add the rule's fault to the route."""
    if rule.fault is not None:
        route.typed_per_filter_config[FILTER].CopyFrom(pack(http_fault(rule.fault)))
