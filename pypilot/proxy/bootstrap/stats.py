"""Which metrics Envoy makes, how they are named, and to whom they are sent (BOOT-004, BOOT-006, PC-021).

Names end with `;` where a value in them may hold dots; the first group of an expression is what is cut out of the name,
the second is the tag's value.
"""

import json
import re
from collections.abc import Iterator
from datetime import timedelta

from envoy_data_plane.envoy.config.core.v3 import ApiVersion, GrpcService, GrpcServiceEnvoyGrpc
from envoy_data_plane.envoy.config.metrics.v3 import (
    HistogramBucketSettings,
    MetricsServiceConfig,
    StatsConfig,
    StatsdSink,
    StatsMatcher,
    StatsSink,
    TagSpecifier,
)
from envoy_data_plane.envoy.type.matcher.v3 import ListStringMatcher, RegexMatcher, StringMatcher

from pypilot.proxy.bootstrap.clusters import METRICS_CLUSTER
from pypilot.proxy.bootstrap.common import address, packed
from pypilot.proxy.settings import AgentSettings
from pypilot.proxy.values import AgentError, seconds_of

_PREFIXES = (
    *("reporter=", "component", "istio", "workload_discovery"),
    *("cluster_manager", "listener_manager", "server", "cluster.xds-grpc", "wasm"),
)
_SUFFIXES = ("rbac.allowed", "rbac.denied", "shadow_allowed", "shadow_denied")
_IDLE_SUFFIX = "downstream_cx_active"
_REGEXPS = (r"vhost\..*\.route\..*",)
_BEFORE = (
    ("cluster_name", r"^cluster\.((.+?);\.)"),
    ("http_conn_manager_prefix", r"^http\.((.+?);\.)"),
    ("http_conn_manager_listener_prefix", r"^listener\..+?\.http\.((.+?);\.)"),
    ("listener_address", r"^listener\.(((?:[0-9.]+|\[[0-9a-fA-F_]+\])_[0-9]+)\.)"),
    ("tcp_prefix", r"^tcp\.((.+)\.)\w+$"),
    ("thread_name", r"^server\.((.+)\.)watchdog"),
    ("response_code", r"_rq(_([0-9]{3}))$"),
    ("response_code_class", r"_rq(_([0-9]xx))$"),
)
_AFTER = (
    ("cache", r"(cache\.(.+?)\.)"),
    ("component", r"(component\.(.+?)\.)"),
    ("tag", r"(tag\.(.+?);\.)"),
    ("wasm_filter", r"(wasm_filter\.(.+?)\.)"),
    ("authz_enforce_result", r"rbac(\.(allowed|denied))"),
    ("authz_dry_run_action", r"(\.istio_dry_run_(allow|deny)_)"),
    ("authz_dry_run_result", r"(\.shadow_(allowed|denied))"),
)
_ANNOTATION = "sidecar.istio.io/"
_FLUSH, _EVICTION, _BUCKETS = (
    f"{_ANNOTATION}{name}" for name in ("statsFlushInterval", "statsEvictionInterval", "statsHistogramBuckets")
)
_USUAL_FLUSH = 5.0


def _words(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _wanted(settings: AgentSettings, annotation: str, configured: tuple[str, ...]) -> Iterator[str]:
    """As annotated, else as configured; `{pod_ip}` stands for each address of the pod."""
    for word in _words(settings.annotations.get(_ANNOTATION + annotation, "")) or configured:
        yield from [word.replace("{pod_ip}", ip) for ip in settings.addresses] if "{pod_ip}" in word else [word]


def _tags(settings: AgentSettings) -> Iterator[TagSpecifier]:
    annotated = _words(settings.annotations.get(f"{_ANNOTATION}extraStatTags", ""))
    more = [(tag, rf"({re.escape(tag)}=\.=(.*?);\.;)") for tag in (*settings.config.extra_stat_tags, *annotated)]
    for name, expression in dict((*_BEFORE, *more, *_AFTER)).items():
        yield TagSpecifier(tag_name=name, regex=expression)


def _buckets(settings: AgentSettings) -> list[HistogramBucketSettings]:
    text = settings.annotations.get(_BUCKETS, "")
    try:
        said = json.loads(text) if text else {}
        return [
            HistogramBucketSettings(match=StringMatcher(prefix=prefix), buckets=[float(b) for b in said[prefix]])
            for prefix in sorted(said)
        ]
    except (ValueError, TypeError):
        raise AgentError(f"{_BUCKETS}: want an object of lists of numbers") from None


def stats_config(settings: AgentSettings) -> StatsConfig:
    """What is made, and the tags in its names."""
    config = settings.config
    prefixes = [*_wanted(settings, "statsInclusionPrefixes", config.inclusion_prefixes), *_PREFIXES]
    suffixes = [*_wanted(settings, "statsInclusionSuffixes", config.inclusion_suffixes), *_SUFFIXES]
    suffixes += [_IDLE_SUFFIX] if settings.ends_when_idle else []
    regexps = [*_wanted(settings, "statsInclusionRegexps", config.inclusion_regexps), *_REGEXPS]
    patterns = [
        *(StringMatcher(prefix=p) for p in dict.fromkeys(prefixes)),
        *(StringMatcher(suffix=s) for s in dict.fromkeys(suffixes)),
        *(StringMatcher(safe_regex=RegexMatcher(regex=r)) for r in dict.fromkeys(regexps)),
    ]
    return StatsConfig(
        stats_tags=list(_tags(settings)),
        use_all_default_tags=False,
        histogram_bucket_settings=_buckets(settings),
        stats_matcher=StatsMatcher(inclusion_list=ListStringMatcher(patterns=patterns)),
    )


def intervals(settings: AgentSettings) -> dict[str, timedelta]:
    """How often metrics are sent, and forgotten if nothing counts them."""
    out = {}
    flush = _USUAL_FLUSH
    if text := settings.annotations.get(_FLUSH, ""):
        flush = seconds_of(text, _FLUSH)
        out["stats_flush_interval"] = timedelta(seconds=flush)
    if text := settings.annotations.get(_EVICTION, ""):
        seconds = seconds_of(text, _EVICTION)
        if not flush or round(seconds * 1000) % round(flush * 1000):
            raise AgentError(f"{_EVICTION}: {text!r} is no multiple of {_FLUSH}")
        out["stats_eviction_interval"] = timedelta(seconds=seconds)
    return out


def sinks(settings: AgentSettings) -> Iterator[StatsSink]:
    """To whom metrics are sent."""
    config = settings.config
    if config.metrics_service is not None:
        service = GrpcService(envoy_grpc=GrpcServiceEnvoyGrpc(cluster_name=METRICS_CLUSTER))
        metrics = MetricsServiceConfig(grpc_service=service, transport_api_version=ApiVersion.V3)
        yield StatsSink(name="envoy.stat_sinks.metrics_service", typed_config=packed(metrics))
    if config.statsd is not None:
        statsd = StatsdSink(address=address(config.statsd.host, config.statsd.port))
        yield StatsSink(name="envoy.stat_sinks.statsd", typed_config=packed(statsd))
