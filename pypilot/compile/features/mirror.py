"""Traffic mirroring: `http[].mirror`, `mirrors[]` (VS-067, VS-068)."""

from collections.abc import Callable, Iterator

from envoy.config.core.v3 import base_pb2
from envoy.config.route.v3 import route_components_pb2 as routes
from google.protobuf import wrappers_pb2

from pypilot.compile.features.percent import always, fraction, whole
from pypilot.kinds.virtual_service import Destination, HTTPRoute, PercentValue


def _share(percentage: PercentValue | None, percent: int | None) -> base_pb2.RuntimeFractionalPercent | None:
    """The mirrored share: all where nothing is said, None where it is nothing."""
    if percentage is not None:
        return always(fraction(percentage)) if percentage.value > 0 else None
    if percent is not None:
        return always(whole(percent)) if percent > 0 else None
    return always(whole(100))


def _mirrored(rule: HTTPRoute) -> Iterator[tuple[Destination, base_pb2.RuntimeFractionalPercent | None]]:
    if rule.mirror is not None:
        yield rule.mirror, _share(rule.mirror_percentage, rule.mirror_percent)
    for policy in rule.mirrors:
        yield policy.destination, _share(policy.percentage, None)


def apply_mirrors(action: routes.RouteAction, rule: HTTPRoute, cluster_of: Callable[[Destination], str]) -> None:
    """Add a mirror policy for each destination with a share above nothing. The host keeps its name (no `-shadow`)."""
    for destination, share in _mirrored(rule):
        if share is not None:
            action.request_mirror_policies.add(
                cluster=cluster_of(destination),
                runtime_fraction=share,
                trace_sampled=wrappers_pb2.BoolValue(value=False),
                disable_shadow_host_suffix_append=True,
            )
