"""Ejection of failing hosts: `outlierDetection` (DR-038…044)."""

from collections.abc import Iterable

from envoy.config.common.matcher.v3 import matcher_pb2
from envoy.config.route.v3 import route_components_pb2
from envoy.type.matcher.v3 import string_pb2

from pypilot.compile.clusters.draft import ClusterDraft
from pypilot.compile.messages import duration
from pypilot.kinds.destination_rule import OutlierDetection


def apply_outlier_detection(draft: ClusterDraft, outlier: OutlierDetection | None, keeps_unhealthy: bool) -> None:
    """Success-rate ejection is always off. `keeps_unhealthy`: the service needs its unready hosts, so never panic."""
    if outlier is None:
        return
    out = draft.cluster.outlier_detection
    out.enforcing_success_rate.value = 0
    if outlier.consecutive_5xx_errors is not None:
        out.consecutive_5xx.value = outlier.consecutive_5xx_errors
        out.enforcing_consecutive_5xx.value = 100 if outlier.consecutive_5xx_errors else 0
    if outlier.consecutive_gateway_errors is not None:
        out.consecutive_gateway_failure.value = outlier.consecutive_gateway_errors
        out.enforcing_consecutive_gateway_failure.value = 100 if outlier.consecutive_gateway_errors else 0
    if outlier.interval is not None:
        out.interval.CopyFrom(duration(outlier.interval))
    if outlier.base_ejection_time is not None:
        out.base_ejection_time.CopyFrom(duration(outlier.base_ejection_time))
    if outlier.max_ejection_percent > 0:
        out.max_ejection_percent.value = outlier.max_ejection_percent
    if outlier.split_external_local_origin_errors:
        out.split_external_local_origin_errors = True
        if outlier.consecutive_local_origin_failures:
            out.consecutive_local_origin_failure.value = outlier.consecutive_local_origin_failures
            out.enforcing_consecutive_local_origin_failure.value = 100
        out.enforcing_local_origin_success_rate.value = 0
    threshold = draft.cluster.common_lb_config.healthy_panic_threshold
    threshold.SetInParent()
    threshold.value = 0 if keeps_unhealthy else max(outlier.min_health_percent, 0)
    _apply_error_codes(draft, outlier.outlier_detection_http_error_codes)


def _apply_error_codes(draft: ClusterDraft, codes: Iterable[object]) -> None:
    """DR-043: only these statuses count as failures."""
    rules = [
        matcher_pb2.MatchPredicate(
            http_response_headers_match=matcher_pb2.HttpHeadersMatch(
                headers=[
                    route_components_pb2.HeaderMatcher(
                        name=":status", string_match=string_pb2.StringMatcher(exact=str(code))
                    )
                ]
            )
        )
        for code in codes
    ]
    if not rules:
        return
    out = draft.http_options().outlier_detection
    if len(rules) == 1:
        out.error_matcher.CopyFrom(rules[0])
    else:
        out.error_matcher.or_match.rules.extend(rules)
