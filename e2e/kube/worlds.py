"""Recorded worlds, and how one is made in a cluster."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from bench.recordings import DEFAULT
from e2e.kube import objects
from e2e.kube.client import Client, Data
from pypilot.kinds import kind_of
from pypilot.kinds.yaml_data import split_documents

ROOT = "istio-system"
SCENARIOS_VARIABLE = "PYPILOT_E2E_SCENARIOS"
"""A directory of recorded worlds (`NAME/world.yaml`, `mesh.yaml`, `nodes/*.json`) in place of the usual one."""


def scenarios() -> list[Path]:
    usual = Path(__file__).parents[2] / DEFAULT
    return sorted(p.parent for p in Path(os.environ.get(SCENARIOS_VARIABLE, usual)).glob("*/world.yaml"))


def documents(text: str) -> list[dict[str, Any]]:
    """The documents that pypilot reads."""
    loaded = (yaml.safe_load(chunk.text) for chunk in split_documents(text))
    return [d for d in loaded if d and kind_of(d["apiVersion"], d["kind"]) is not None]


async def apply_world(client: Client, world: Iterable[Data], mesh: str) -> list[Data]:
    """Make the world in the cluster, and give it back as files would have it: as written, with the server's ages."""
    await client.wipe()
    wanted = [*world]
    if not any(d["kind"] == "Namespace" and d["metadata"]["name"] == ROOT for d in wanted):
        wanted.append(objects.namespace(ROOT))
    if mesh:
        wanted.append(objects.config_map(ROOT, "istio", mesh=mesh))
    places = {d["metadata"]["namespace"] for d in wanted if d["metadata"].get("namespace")}
    named = {d["metadata"]["name"] for d in wanted if d["kind"] == "Namespace"}
    wanted += [objects.namespace(place) for place in sorted(places - named - {"default"})]
    await client.apply_all(wanted)
    there = {_key(d): d for d in await client.everything()}
    out = []
    for data in wanted:
        data = json.loads(json.dumps(data))
        data["metadata"]["creationTimestamp"] = there.pop(_key(data))["metadata"]["creationTimestamp"]
        out.append(data)
    return [*out, *there.values()]  # and what the server made by itself


def _key(data: Data) -> tuple[str, str, str]:
    return (data["kind"], data["metadata"].get("namespace", ""), data["metadata"]["name"])
