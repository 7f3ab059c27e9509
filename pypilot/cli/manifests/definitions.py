"""CustomResourceDefinitions of the registry's Istio kinds; those of the Gateway API are its own project's to give."""

from collections.abc import Iterable
from typing import Any

from pypilot.cli.manifests.labels import LABELS
from pypilot.cli.manifests.schema import kind_schema
from pypilot.kinds.base import Kind

OWNED_GROUPS = ".istio.io"


def definitions(kinds: Iterable[Kind]) -> list[dict[str, Any]]:
    """The definitions, by name."""
    made = [_definition(kind) for kind in kinds if kind.group.endswith(OWNED_GROUPS)]
    return sorted(made, key=lambda crd: str(crd["metadata"]["name"]))


def _definition(kind: Kind) -> dict[str, Any]:
    schema = kind_schema(kind)
    columns = _columns(kind, schema)
    names: dict[str, Any] = {
        "kind": kind.name,
        "listKind": f"{kind.name}List",
        "plural": kind.plural,
        "singular": kind.name.lower(),
        "shortNames": list(kind.short_names),
        "categories": ["istio-io", kind.group.replace(".", "-")],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{kind.plural}.{kind.group}", "labels": dict(LABELS)},
        "spec": {
            "group": kind.group,
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "names": {key: value for key, value in names.items() if value},
            "versions": [
                {
                    "name": version,
                    "served": True,
                    "storage": version == kind.versions[0],
                    "schema": {"openAPIV3Schema": schema},
                    "subresources": {"status": {}},
                    **({"additionalPrinterColumns": columns} if columns else {}),
                }
                for version in kind.versions
            ],
        },
    }


def _columns(kind: Kind, schema: dict[str, Any]) -> list[dict[str, str]]:
    """Named after the field; once there are any, the age must be among them."""
    out = []
    for path in kind.columns:
        part = schema
        for step in path.split("."):
            part = part["properties"][step]
        name = path.rpartition(".")[2]
        column = {"name": name[0].upper() + name[1:], "type": "string", "jsonPath": f".{path}"}
        out.append(column | ({"description": part["description"]} if "description" in part else {}))
    if out:
        out.append({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"})
    return out
