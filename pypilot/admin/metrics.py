"""Prometheus metrics under Istiod's names where they fit (METR-001…005), in a registry of their own.

Counters are fed by the streams (`Metrics`), gauges are read from the engine when they are scraped. The client library
appends `_total` to counters; those that Istiod names otherwise are exposed as untyped, so that dashboards find them.
"""

import time
from collections import Counter
from collections.abc import Iterable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, UnknownMetricFamily

from pypilot import __version__
from pypilot.admin.debug import ready_handler
from pypilot.admin.facts import Facts
from pypilot.compile.discovery import cluster_ports
from pypilot.engine.last_good import CODE as CREDENTIAL
from pypilot.kinds.destination_rule import DestinationRule
from pypilot.world.delta import Problem
from pypilot.world.model import MeshService, Resolution
from pypilot.world.world import World

_SIZE_BUCKETS = (1e3, 1e4, 1e5, 1e6, 4e6, 1e7, 4e7)
_REJECTS = ("CDS", "EDS", "LDS", "RDS")


class Metrics:
    """Counts what happens (`xds.status.Metrics`), and shows it with what is there now."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.facts: Facts | None = None
        self._started = time.time()
        self._pushes: Counter[str] = Counter()
        self._acks: Counter[str] = Counter()
        self._rejects: Counter[str] = Counter()
        self._stale: Counter[str] = Counter()
        self._resources: Counter[str] = Counter()
        self._updates: Counter[str] = Counter()
        self._credentials = 0
        self._sizes = Histogram(
            "pilot_xds_config_size_bytes",
            "Size of the responses that were sent, in bytes.",
            ("type",),
            buckets=_SIZE_BUCKETS,
            registry=self.registry,
        )
        ProcessCollector(registry=self.registry)
        self.registry.register(self)

    # -- told by the streams and by the application -------------------------------------------------------------------

    def pushed(self, kind: str, size: int, resources: int) -> None:
        """A response was sent."""
        self._pushes[kind] += 1
        self._resources[kind] += resources
        self._sizes.labels(kind.lower()).observe(size)

    def acked(self, kind: str) -> None:
        """A response was accepted."""
        self._acks[kind] += 1

    def rejected(self, kind: str) -> None:
        """A response was rejected."""
        self._rejects[kind] += 1

    def stale_nonce(self, kind: str) -> None:
        """A request answered a response that is not the last."""
        self._stale[kind] += 1

    def connected(self, change: int) -> None:
        """Connections are counted when they are scraped."""

    def updated(self, source: str) -> None:
        """A source brought a change."""
        self._updates[source] += 1

    def reported(self, new: Iterable[Problem]) -> None:
        """Problems that were not there before."""
        self._credentials += sum(1 for p in new if p.code == CREDENTIAL and p.severity == "error")

    # -- asked by the registry ----------------------------------------------------------------------------------------

    def describe(self) -> Iterable[Metric]:
        """Nothing in advance: names are only known to be unique when collected."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Everything, now."""
        yield GaugeMetricFamily("istiod_uptime_seconds", "Seconds since the start.", time.time() - self._started)
        yield _labelled(GaugeMetricFamily, "pilot_info", "Version of pypilot.", "version", {__version__: 1})
        yield _labelled(UnknownMetricFamily, "pilot_xds_pushes", "Responses sent.", "type", _lower(self._pushes))
        yield _labelled(CounterMetricFamily, "pypilot_xds_acks", "Responses accepted.", "type", _lower(self._acks))
        yield _labelled(
            CounterMetricFamily, "pypilot_xds_resources", "Resources sent.", "type", _lower(self._resources)
        )
        for kind in _REJECTS:
            name = f"pilot_xds_{kind.lower()}_reject"
            yield GaugeMetricFamily(name, f"{kind} responses that proxies rejected.", self._rejects[kind])
        yield _labelled(
            UnknownMetricFamily, "pilot_total_xds_rejects", "Responses rejected.", "type", _lower(self._rejects)
        )
        yield _labelled(
            UnknownMetricFamily, "pilot_xds_expired_nonce", "Answers to older responses.", "type", _lower(self._stale)
        )
        yield _labelled(
            UnknownMetricFamily, "pilot_inbound_updates", "Changes that sources brought.", "type", self._updates
        )
        yield CounterMetricFamily(
            "pilot_sds_certificate_errors", "Secrets that could not be used when they came.", self._credentials
        )
        if self.facts is not None:
            yield from _present(self.facts)


def _lower(counter: Counter[str]) -> dict[str, int]:
    return {kind.lower(): value for kind, value in counter.items()}


def _labelled(
    family: type[Metric], name: str, text: str, label: str, values: "dict[str, int] | Counter[str]"
) -> Metric:
    metric = family(name, text, labels=[label])
    for value, amount in sorted(values.items()):
        metric.add_metric([value], amount)
    return metric


def _lacks_endpoints(world: World, service: MeshService) -> bool:
    return service.resolution is Resolution.CLIENT_SIDE and not world.tables.get("endpoints", {}).get(service.key)


def _present(facts: Facts) -> Iterable[Metric]:
    """What is there at this moment."""
    connections = facts.connections()
    versions = Counter(c.proxy.istio_version or f"envoy-{c.proxy.user_agent_version or 'unknown'}" for c in connections)
    yield _labelled(GaugeMetricFamily, "pilot_xds", "Connected proxies.", "version", versions)
    world = facts.engine.world
    yield GaugeMetricFamily("pilot_services", "Services known.", len(world.tables.get("services", {})))
    empty = sum(len(cluster_ports(s)) for s in world.tables.get("services", {}).values() if _lacks_endpoints(world, s))
    yield GaugeMetricFamily("pilot_eds_no_instances", "Ports of services without any endpoint (EDS-006).", empty)
    routes = world.objects.get("VirtualService", {})
    yield GaugeMetricFamily("pilot_virt_services", "VirtualServices known.", len(routes))
    rules = world.objects.get("DestinationRule", {}).values()
    subsets = sum(len(r.spec.subsets) for r in rules if isinstance(r, DestinationRule))
    yield GaugeMetricFamily("pilot_destrule_subsets", "Subsets of all DestinationRules.", subsets)
    statistics = facts.engine.statistics()
    yield GaugeMetricFamily("pypilot_views", "Distinct views of the connected proxies.", statistics.views)
    yield GaugeMetricFamily("pypilot_memo_entries", "Compiled parts that are kept.", statistics.memo_entries)
    yield CounterMetricFamily("pypilot_compiled_parts", "Parts compiled.", sum(statistics.computed.values()))
    yield CounterMetricFamily("pypilot_publishes", "Worlds published.", statistics.publishes)
    yield CounterMetricFamily("pypilot_compile_failures", "Compilations that failed.", statistics.compile_failures)
    problems = Counter((p.severity, p.ref.kind if p.ref else "") for p in facts.engine.problems())
    rejected = GaugeMetricFamily("pypilot_problems", "What is wrong now.", labels=["severity", "kind"])
    for (severity, kind), amount in sorted(problems.items()):
        rejected.add_metric([severity, kind], amount)
    yield rejected


def monitoring_app(facts: Facts, metrics: Metrics) -> web.Application:
    """The application of the monitoring port: `/metrics`, `/version`, `/ready`."""

    async def show(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def version(_: web.Request) -> web.Response:
        return web.json_response({"name": "pypilot", "version": __version__})

    app = web.Application()
    app.add_routes([web.get("/metrics", show), web.get("/version", version), web.get("/ready", ready_handler(facts))])
    return app
