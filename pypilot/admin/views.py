"""What the debug pages say, as plain JSON data. Pure: everything comes in as arguments."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from pypilot.engine.loop import EngineStatistics
from pypilot.kinds.codes import CODES
from pypilot.sources.kubernetes.statistics import Statistics
from pypilot.wire.types import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, short_name
from pypilot.world.delta import Problem
from pypilot.world.world import World
from pypilot.xds.session import TypeStatus
from pypilot.xds.status import ConnectionStatus

Json = dict[str, Any]

_SYNCZ_NAMES = {CLUSTER: "cluster", LISTENER: "listener", ROUTE: "route", ENDPOINT: "endpoint", SECRET: "secret"}


def problem(found: Problem) -> Json:
    """One entry of `/debug/problems` and of `validate -o json`."""
    return {
        "severity": found.severity,
        "code": found.code,
        "number": CODES[found.code].number if found.code in CODES else "",
        "file": found.origin.source if found.origin else "",
        "line": found.origin.line if found.origin else 0,
        "kind": found.ref.kind if found.ref else "",
        "namespace": found.ref.namespace if found.ref else "",
        "name": found.ref.name if found.ref else "",
        "field": found.field,
        "message": found.message,
    }


def warnings(found: Iterable[Problem], wanted: Mapping[str, str]) -> Json:
    """`/debug/warnings`: the warnings like `wanted` (kind, namespace, name, code), and what the codes mean."""
    shown = [entry for entry in map(problem, found) if entry["severity"] == "warning"]
    shown = [entry for entry in shown if all(entry.get(key) == value for key, value in wanted.items())]
    codes = [CODES[name] for name in sorted({entry["code"] for entry in shown}) if name in CODES]
    return {
        "warnings": shown,
        "codes": {
            code.name: {
                "number": code.number,
                "meaning": code.meaning,
                "remedy": code.remedy,
                "istio": list(code.istio),
                "documentation": code.url,
            }
            for code in codes
        },
    }


def _state(status: TypeStatus) -> str:
    if status.error:
        return "STALE"
    if status.synced:
        return "SYNCED"
    return "NOT ACKED" if status.sent_nonce else "NOT SENT"


def syncz(connections: Iterable[ConnectionStatus]) -> list[Json]:
    """What each proxy was sent and what it accepted (CTL-004)."""
    out = []
    for connection in connections:
        proxy = connection.proxy
        entry: Json = {
            "proxy": f"{proxy.name}.{proxy.namespace}",
            "proxy_type": proxy.type,
            "cluster_id": proxy.cluster_id,
            "istio_version": proxy.istio_version,
            "connection": connection.id,
        }
        for status in connection.types:
            name = _SYNCZ_NAMES.get(status.type_url, short_name(status.type_url))
            entry |= {
                f"{name}_sent": status.sent_nonce,
                f"{name}_acked": status.acked_nonce,
                f"{name}_sent_version": status.sent_version,
                f"{name}_acked_version": status.acked_version,
                f"{name}_status": _state(status),
            }
        out.append(entry)
    return out


def connection(status: ConnectionStatus) -> Json:
    """One entry of `/debug/connections`."""
    return {
        "connection": status.id,
        "node": status.proxy.id,
        "peer": status.peer,
        "identity": status.identity,
        "variant": status.variant,
        "connected_at": status.connected_at.isoformat(),
        "types": {
            short_name(t.type_url): {
                "watched": t.watched,
                "wildcard": t.wildcard,
                "synced": t.synced,
                "version": t.acked_version,
                "error": t.error,
            }
            for t in status.types
        },
    }


def kinds(world: World, cluster: Statistics | None) -> Json:
    """How many objects of each kind count, and how watching the cluster goes, if one is watched."""
    counts: Json = {kind: len(objects) for kind, objects in sorted(world.objects.items()) if objects}
    if cluster is None:
        return {"objects": counts}
    return {
        "objects": counts,
        "cluster": {
            "not_served": [f"{k.kind}.{k.group}" for k in cluster.kinds if k.state == "not served"],
            "discovery_error": cluster.discovery_error,
            "kinds": [asdict(k) for k in cluster.kinds],
        },
    }


def engine(statistics: EngineStatistics) -> Json:
    """`/debug/views`: how well the proxies share, and what was compiled."""
    return {
        "views": statistics.views,
        "proxies": statistics.feeds,
        "generation": statistics.generation,
        "publishes": statistics.publishes,
        "memo_entries": statistics.memo_entries,
        "memo_buckets": statistics.memo_buckets,
        "compile_failures": statistics.compile_failures,
        "computed": dict(sorted(statistics.computed.items())),
    }
