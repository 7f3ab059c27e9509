"""Permissive resource definitions for the kinds of the registry, for an API server that has none."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from e2e.kube.client import Client
from pypilot.kinds import KINDS
from pypilot.kinds.base import Kind

CRDS_VARIABLE = "PYPILOT_E2E_CRDS"
"""A file or directory of resource definitions to install in place of the permissive ones."""


def custom_kinds() -> tuple[Kind, ...]:
    """The kinds that an API server does not bring: their groups are domains that are not Kubernetes' own."""
    return tuple(k for k in KINDS if "." in k.group and (not k.group.endswith("k8s.io") or "gateway" in k.group))


def definition(kind: Kind, versions: Sequence[str] = ()) -> dict[str, Any]:
    """A structural definition that lets everything pass."""
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    served = versions or kind.versions
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{kind.plural}.{kind.group}",
            "annotations": {"api-approved.kubernetes.io": "unapproved, for tests"},
        },
        "spec": {
            "group": kind.group,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "names": {
                "plural": kind.plural,
                "singular": kind.name.lower(),
                "kind": kind.name,
                "listKind": f"{kind.name}List",
            },
            "versions": [
                {
                    "name": v,
                    "served": True,
                    "storage": v == served[0],
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": {"status": {}},
                }
                for v in served
            ],
        },
    }


def read_definitions(path: Path) -> Iterator[dict[str, Any]]:
    """The definitions of a file or of all YAML files of a directory."""
    for file in sorted(path.glob("*.y*ml")) if path.is_dir() else [path]:
        for document in yaml.load_all(file.read_text(), Loader=yaml.CSafeLoader):
            if document and document.get("kind") == "CustomResourceDefinition":
                document.pop("status", None)
                yield document


async def install(client: Client) -> None:
    """All definitions that are not there yet."""
    given = os.environ.get(CRDS_VARIABLE)
    wanted = {f"{k.plural}.{k.group}": definition(k) for k in custom_kinds()}
    for crd in read_definitions(Path(given)) if given else ():
        wanted[crd["metadata"]["name"]] = crd
    present = await client.definitions()
    await client.apply_all(crd for name, crd in wanted.items() if name not in present)
