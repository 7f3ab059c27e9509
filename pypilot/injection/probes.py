"""Probes of the application are sent to the agent, which passes them on (BOOT-008). Pure; changes the pod it is given.

The kubelet speaks no mutual TLS, and what it sends would be captured.
"""

import copy
import json
from collections.abc import Iterator
from typing import Any, Final

from pypilot.injection.names import PROBERS, PROXY
from pypilot.injection.pod import Json

_PROBES: Final = (("readinessProbe", "readyz"), ("livenessProbe", "livez"), ("startupProbe", "startupz"))
_HOOKS: Final = (("preStop", "prestopz"), ("postStart", "poststartz"))


def rewrite_probes(pod: Json, proxy: Json, port: int, known: str = "") -> None:
    """Send probes and lifecycle requests of all containers but the proxy's to `/app-health/…` at the agent's port.

    Args:
        pod: Its containers are changed.
        proxy: The proxy's container, which is told of them.
        port: The agent's.
        known: Those of an earlier injection; its probes are rewritten already.
    """
    found: dict[str, Any] = {}
    for container in (*pod["spec"]["initContainers"], *pod["spec"]["containers"]):
        if container["name"] == PROXY:
            continue
        ports = {p["name"]: p["containerPort"] for p in container.get("ports") or () if p.get("name")}
        for owner, key, path in _handlers(container):
            told = _rewritten(owner[key], ports, path, port)
            if told is not None:
                found[path] = told
    before = _read(known)
    if found or before:
        # An earlier injection knows what a probe was before it was rewritten, unless it was changed since.
        env = [e for e in proxy.get("env") or [] if e["name"] != PROBERS]
        proxy["env"] = [*env, {"name": PROBERS, "value": json.dumps({**before, **found}, sort_keys=True)}]


def _handlers(container: Json) -> Iterator[tuple[Json, str, str]]:
    """What holds a handler, under which key, and its path at the agent."""
    base = f"/app-health/{container['name']}/"
    for key, word in _PROBES:
        if container.get(key):
            yield container, key, base + word
    lifecycle = container.get("lifecycle") or {}
    for key, word in _HOOKS:
        if lifecycle.get(key):
            yield lifecycle, key, f"/app-lifecycle/{container['name']}/{word}"


def _rewritten(handler: Json, ports: dict[str, Any], path: str, port: int) -> Json | None:
    """Change a handler in place; what the agent is told of it, None if it stays as it is."""
    kind = next((k for k in ("httpGet", "tcpSocket", "grpc") if handler.get(k)), None)
    if kind is None:
        return None
    action = copy.deepcopy(handler[kind])
    target = action["port"]
    if kind != "grpc" and isinstance(target, str):
        target = int(target) if target.isascii() and target.isdigit() else ports.get(target)
    if kind == "httpGet" and action.get("path") == path:
        action["port"] = handler[kind]["port"] = port
        return None  # rewritten before
    if target is None:
        return None  # of a name that no port has
    told: Json = {kind: {**action, "port": target}}
    if handler.get("timeoutSeconds"):
        told["timeoutSeconds"] = handler["timeoutSeconds"]
    http = {"path": path, "port": port}
    if kind == "httpGet":
        scheme = {"scheme": "HTTP"} if action.get("scheme") else {}
        http = {**action, **http, **scheme}
    handler.pop(kind)
    handler["httpGet"] = http
    return told


def _read(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
