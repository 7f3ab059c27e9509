"""Istio's percentages as Envoy's fractions (VS-069)."""

from envoy.config.core.v3 import base_pb2
from envoy.type.v3 import percent_pb2

from pypilot.kinds.virtual_service import PercentValue


def fraction(percent: PercentValue) -> percent_pb2.FractionalPercent:
    """A `Percent` in millionths; digits beyond the fourth are cut off."""
    return percent_pb2.FractionalPercent(
        numerator=int(percent.value * 10_000), denominator=percent_pb2.FractionalPercent.MILLION
    )


def whole(percent: int) -> percent_pb2.FractionalPercent:
    """A whole number of hundredths, 0 to 100."""
    return percent_pb2.FractionalPercent(
        numerator=min(max(percent, 0), 100), denominator=percent_pb2.FractionalPercent.HUNDRED
    )


def always(value: percent_pb2.FractionalPercent) -> base_pb2.RuntimeFractionalPercent:
    """A fraction without a runtime key."""
    return base_pb2.RuntimeFractionalPercent(default_value=value)
