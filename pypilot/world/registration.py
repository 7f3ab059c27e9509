"""Machines that register themselves: what is to be written into their WorkloadEntries (WE-004…008). Pure.

Objects of the API server come and go here in JSON form: what pypilot does not know of them must survive. Times are RFC
3339 in UTC with all digits, so they sort as text.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

import msgspec

from pypilot.kinds.workload_entry import HEALTH_CHECKS, HEALTHY
from pypilot.kinds.workload_group import KIND, WorkloadGroup
from pypilot.wire.node import Proxy
from pypilot.world.endpoints import LOCALITY_LABEL
from pypilot.world.workloads import REGISTRATION_GROUP

CONTROLLER = "istio.io/workloadController"
CONNECTED = "istio.io/connectedAt"
DISCONNECTED = "istio.io/disconnectedAt"
_TUNNEL = "networking.istio.io/tunnel"
_MAX_NAME = 253
Json: TypeAlias = dict[str, Any]


def time_text(at: datetime) -> str:
    """RFC 3339."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _time(text: str) -> datetime | None:
    """Nanoseconds, as Go writes them, are cut."""
    body, dot, fraction = text.removesuffix("Z").partition(".")
    try:
        return datetime.fromisoformat(f"{body}{dot}{fraction[:6].ljust(6, '0') if dot else ''}+00:00")
    except ValueError:
        return None


def entry_name(group: str, address: str, network: str) -> str:
    """`GROUP-ADDRESS[-NETWORK]`; of a name that is too long the end."""
    name = "-".join(part for part in (group, address.replace(":", "-"), network) if part)
    return name[-_MAX_NAME:].lstrip("-.")


def new_entry(name: str, proxy: Proxy, group: WorkloadGroup, uid: str, version: str) -> Json:
    """The entry of a machine: the group's template, its labels under those of the node."""
    template = msgspec.to_builtins(group.spec.template)
    labels = {**group.spec.template.labels, **group.spec.metadata.labels, **dict(proxy.labels)}
    labels.pop(LOCALITY_LABEL, None)
    if proxy.enable_hbone:
        labels.setdefault(_TUNNEL, "http")
    annotations = {REGISTRATION_GROUP: group.name, **group.spec.metadata.annotations}
    if proxy.probes_health:
        annotations[HEALTH_CHECKS] = "true"
    spec = {**template, "address": proxy.ip, "labels": labels}
    if proxy.network:
        spec["network"] = proxy.network
    if str(proxy.locality):
        spec["locality"] = str(proxy.locality)
    owner = {"apiVersion": version, "kind": KIND.name, "name": group.name, "uid": uid, "controller": True}
    return {
        "apiVersion": version,
        "kind": "WorkloadEntry",
        "metadata": {
            "name": name,
            "namespace": group.namespace,
            "labels": labels,
            "annotations": annotations,
            **({"ownerReferences": [owner]} if uid else {}),
        },
        "spec": spec,
    }


def refusal(entry: Mapping[str, Any], namespace: str, account: str) -> str:
    """Why a proven identity may not stand for an entry (WE-005); empty if it may."""
    wanted = (entry.get("spec") or {}).get("serviceAccount", "")
    if entry["metadata"]["namespace"] != namespace:
        return f"the entry is in namespace {entry['metadata']['namespace']!r}, the identity in {namespace!r}"
    if wanted and wanted != account:
        return f"the entry is for service account {wanted!r}, the identity is {account!r}"
    return ""


def _noted(entry: Mapping[str, Any]) -> dict[str, str]:
    return dict(entry["metadata"].get("annotations") or {})


def _with(entry: Mapping[str, Any], annotations: Mapping[str, str]) -> Json:
    return {**entry, "metadata": {**entry["metadata"], "annotations": dict(annotations)}}


def connected(entry: Mapping[str, Any], instance: str, at: datetime) -> Json | None:
    """The entry as of a connection to this control plane; None if a later word of another one stands there."""
    noted, when = _noted(entry), time_text(at)
    left, came = _time(noted.get(DISCONNECTED, "")), _time(noted.get(CONNECTED, ""))
    if (left is not None and at < left) or (came is not None and at < came):
        return None
    if noted.get(CONTROLLER) == instance and came == _time(when):
        return None
    noted.pop(DISCONNECTED, None)
    return _with(entry, {**noted, CONTROLLER: instance, CONNECTED: when})


def disconnected(entry: Mapping[str, Any], instance: str, since: datetime, at: datetime) -> Json | None:
    """The entry after the end of the connection that began at `since`; None if another one has it by now (WE-006)."""
    noted = _noted(entry)
    came = _time(noted.get(CONNECTED, ""))
    if noted.get(CONTROLLER) != instance or (came is not None and came > since.astimezone(UTC)):
        return None
    noted.pop(CONNECTED, None)
    return _with(entry, {**noted, DISCONNECTED: time_text(at)})


def is_due(annotations: Mapping[str, str], has_health: bool, now: datetime, grace: float) -> bool:
    """True if nobody has come back for an entry: one that registered itself, or one whose health is known."""
    if not (annotations.get(REGISTRATION_GROUP) or (annotations.get(CONTROLLER) and has_health)):
        return False
    left = _time(annotations.get(DISCONNECTED, ""))
    return not annotations.get(CONNECTED) and left is not None and (now - left).total_seconds() >= grace


def registered_itself(entry: Mapping[str, Any]) -> bool:
    """True if the entry was made for a connection and so may be deleted."""
    return bool(_noted(entry).get(REGISTRATION_GROUP))


def takes_health(entry: Mapping[str, Any]) -> bool:
    """True if reports of health are for this entry, whether or not they count for traffic (WE-003)."""
    return HEALTH_CHECKS in _noted(entry)


def with_health(entry: Mapping[str, Any], instance: str, healthy: bool, message: str, at: datetime) -> Json | None:
    """The entry with a report of its health in its status; None if it is not this control plane's (WE-007)."""
    status = dict(entry.get("status") or {})
    conditions = list(status.get("conditions") or ())
    old: Mapping[str, Any] = next((c for c in conditions if c.get("type") == HEALTHY), {})
    before = _time(str(old.get("lastProbeTime", "")))
    if _noted(entry).get(CONTROLLER) != instance or (before is not None and before > at.astimezone(UTC)):
        return None
    when, state = time_text(at), "True" if healthy else "False"
    since = old.get("lastTransitionTime", when) if old.get("status") == state else when
    new = {"type": HEALTHY, "status": state, "lastProbeTime": when, "lastTransitionTime": since}
    new |= {"message": message} if message and not healthy else {}
    status["conditions"] = [*(c for c in conditions if c.get("type") != HEALTHY), new]
    return {**entry, "status": status}


def without_health(entry: Mapping[str, Any]) -> Json:
    """The entry without any word on its health: nobody knows it any more."""
    status = dict(entry.get("status") or {})
    status["conditions"] = [c for c in status.get("conditions") or () if c.get("type") != HEALTHY]
    return {**entry, "status": status}
