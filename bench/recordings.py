"""Recorded worlds, what istiod served for them, and what pypilot makes of them in the same form.

A recording is a directory `NAME/` with `world.yaml` (Kubernetes and Istio objects), `mesh.yaml` (MeshConfig),
`nodes/NODE.json` (Envoy nodes) and `istiod/NODE/TYPE.json` (a list of {"name", "resource"}); `cluster.yaml` beside them
holds what every API server has by itself.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from pypilot.assembly import load
from pypilot.compile.generators import GENERATORS
from pypilot.engine.loop import Engine
from pypilot.settings import Settings
from pypilot.wire.decode import cover_sensitive, resource_to_dict
from pypilot.wire.node import PROXY_TYPES, Proxy, parse_node
from pypilot.wire.references import held_by
from pypilot.wire.resource import Resource
from pypilot.wire.types import BY_SHORT

DEFAULT = Path("../shared/scenarios")
TYPES = ("CDS", "LDS", "EDS", "RDS", "SDS", "ECDS", "NDS")
_OTHER_SUBJECTS = ("ambient-", "authz-", "peerauth-", "request-auth-", "telemetry-", "gateway-api-")

ByName = dict[str, dict[str, Any]]
"""Name -> decoded resource."""


def is_traffic(scenario: str) -> bool:
    """Whether a scenario is about traffic rules, and not about security, telemetry, ambient or the Gateway API."""
    return not scenario.startswith(_OTHER_SUBJECTS)


def scenarios_in(recordings: Path) -> list[Path]:
    """The directories of the recordings, by name."""
    return sorted(p for p in recordings.iterdir() if (p / "world.yaml").exists())


def nodes(scenario: Path) -> Iterator[tuple[str, Proxy]]:
    """The recording's nodes that are Envoys."""
    for path in sorted((scenario / "nodes").glob("*.json")):
        if not (scenario / "istiod" / path.stem).is_dir():
            continue
        data = json.loads(path.read_text())
        if data["id"].partition("~")[0] in PROXY_TYPES[:2]:
            yield path.stem, parse_node(data)


def recorded(folder: Path) -> dict[str, ByName]:
    """What istiod served to one node."""
    out: dict[str, ByName] = {}
    for kind in TYPES:
        path = folder / f"{kind}.json"
        items = json.loads(path.read_text()) if path.exists() else []
        out[kind] = {item["name"]: item["resource"] for item in items}
    return out


def engine_for(scenario: Path) -> Engine:
    """An engine that holds the recording's world."""
    shared = scenario.parent / "cluster.yaml"
    paths = [p for p in (shared, scenario / "world.yaml") if p.exists()]
    mesh = scenario / "mesh.yaml"
    return load(Settings(config=tuple(paths), mesh_config=mesh if mesh.exists() else None), GENERATORS)[0]


def compiled(engine: Engine, proxy: Proxy) -> dict[str, ByName]:
    """What one proxy gets that asks as the recorder did.

    Wildcard for clusters and listeners, the DNS table without a name, and of the other types what those refer to.
    """
    offered = engine.compile_for(proxy)
    held = held_by(offered, decode)
    for resource in offered.get(BY_SHORT.get("NDS", ""), ()):
        held[BY_SHORT["NDS"]][resource.name] = decode(resource)
    return {kind: _by_name(kind, held.get(BY_SHORT.get(kind, ""), {})) for kind in TYPES}


def _by_name(kind: str, resources: ByName) -> ByName:
    """By the names in the resources: state of the world gives no others."""
    field = "cluster_name" if kind == "EDS" else "name"
    return {str(decoded.get(field, "")): decoded for decoded in resources.values()}


def decode(resource: Resource) -> dict[str, Any]:
    """Protobuf JSON in which nothing is covered but private keys, as in the recordings."""
    return resource_to_dict(resource, _cover_private_keys)


def _cover_private_keys(message: Message, field: FieldDescriptor, value: Any) -> bool:
    return field.name == "private_key" and cover_sensitive(message, field, value)
