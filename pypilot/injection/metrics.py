"""Scraping goes to the agent, which serves the application's metrics with Envoy's (MESH-040). Pure; changes the pod."""

import json
import re
from typing import Final

from pypilot.injection.annotations import boolean
from pypilot.injection.errors import InjectionError
from pypilot.injection.names import MERGE_METRICS, SCRAPING
from pypilot.injection.pod import Json

_WORD = re.compile(r"[^a-zA-Z0-9_]")
_SCRAPE: Final = "prometheus_io_scrape"
_PORT: Final = "prometheus_io_port"
_PATH: Final = "prometheus_io_path"
_TARGETS: Final = "prometheus_istio_io_scrape_targets"
_TARGETS_ANNOTATION: Final = "prometheus.istio.io/scrape-targets"
_OURS: Final = frozenset({_SCRAPE, _PORT, _PATH, _TARGETS})
_RESERVED: Final = frozenset({"15000", "15001", "15004", "15006", "15008", "15020", "15021", "15053", "15090"})


def merge_metrics(pod: Json, proxy: Json, port: int, by_default: bool) -> None:
    """Replace the pod's `prometheus.io` annotations by the agent's, and tell the agent what they said.

    Annotations that name the agent's port already stay as they are.

    Raises:
        InjectionError: the application's port cannot be scraped.
    """
    annotations = pod["metadata"]["annotations"]
    if not _enabled(annotations.get(MERGE_METRICS), by_default):
        return
    said = {_name(key): value for key, value in annotations.items() if _name(key) in _OURS}
    if not _enabled(said.get(_SCRAPE), True) or said.get(_PORT) == str(port):
        return
    targets = _targets(said.pop(_TARGETS, ""))
    for target in targets:
        _check_port(target["port"], port, _TARGETS_ANNOTATION)
    if targets:  # the first one also for agents that know of one alone
        said |= {_PORT: targets[0]["port"], _PATH: targets[0]["path"]}
    elif own := said.get(_PORT):
        _check_port(own, port, "prometheus.io/port")
    if said:
        told: Json = {key.removeprefix("prometheus_io_"): value for key, value in said.items()}
        told |= {"targets": targets} if targets else {}
        env = [e for e in proxy.get("env") or [] if e["name"] != SCRAPING]
        proxy["env"] = [*env, {"name": SCRAPING, "value": json.dumps(told, sort_keys=True)}]
    for key in [k for k in annotations if _name(k) in _OURS]:
        del annotations[key]
    annotations |= {
        "prometheus.io/scrape": "true",
        "prometheus.io/port": str(port),
        "prometheus.io/path": "/stats/prometheus",
    }


def _targets(text: str) -> list[dict[str, str]]:
    """`PORT:PATH` of a comma list; the path is /metrics unless it is said."""
    pairs = (word.strip().partition(":") for word in text.split(",") if word.strip())
    return [{"port": port.strip(), "path": path.strip() or "/metrics"} for port, _, path in pairs]


def _check_port(text: str, agent: int, annotation: str) -> None:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) < 65536:
        raise InjectionError(f"metadata.annotations[{annotation}]: {text!r} is not a port")
    if str(int(text)) in {str(agent), *_RESERVED}:
        raise InjectionError(f"metadata.annotations[{annotation}]: {text} is a port of the proxy")


def restore_metrics(pod: Json, proxy: Json | None, port: int, by_default: bool) -> None:
    """Undo it, before a pod is injected again."""
    annotations = pod["metadata"]["annotations"]
    ours = any(_name(k) == _PORT and v == str(port) for k, v in annotations.items())
    if not ours or not _enabled(annotations.get(MERGE_METRICS), by_default):
        return
    for key in [k for k in annotations if _name(k) in _OURS]:
        del annotations[key]
    environment: list[Json] = (proxy or {}).get("env") or []
    told: Json = next((e for e in environment if e["name"] == SCRAPING), {})
    try:
        said = json.loads(told.get("value") or "{}")
    except (TypeError, ValueError, RecursionError):
        return
    if isinstance(said, dict):
        targets = said.get("targets")
        if isinstance(targets, list) and all(isinstance(t, dict) for t in targets) and targets:
            annotations[_TARGETS_ANNOTATION] = ",".join(f"{t.get('port')}:{t.get('path')}" for t in targets)
            said = {"scrape": said.get("scrape")}
        words = {"scrape", "port", "path"}
        annotations |= {f"prometheus.io/{k}": v for k, v in said.items() if k in words and isinstance(v, str)}


def _name(annotation: str) -> str:
    """As Prometheus makes labels of annotations."""
    return _WORD.sub("_", annotation)


def _enabled(text: str | None, default: bool) -> bool:
    try:
        return default if text is None else boolean(text)
    except ValueError:
        return default
