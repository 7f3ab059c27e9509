"""Route timeouts: `http[].timeout` (VS-045, VS-046). No timeout is written as 0s, which lets `grpc-timeout` count."""

from envoy.config.route.v3 import route_components_pb2 as routes

from pypilot.compile.messages import duration
from pypilot.kinds.base import Duration

NONE = Duration(0)
LONGEST = Duration(9_223_372_035 * 1_000_000_000)
"""Some 292 years, in nanoseconds what 64 bits can hold: Envoy rejects more."""


def apply_timeout(action: routes.RouteAction, timeout: Duration | None) -> None:
    """Set `timeout` and `max_grpc_timeout`, both 0s where the rule names none."""
    value = duration(timeout or NONE)
    action.timeout.CopyFrom(value)
    action.max_grpc_timeout.CopyFrom(value)
