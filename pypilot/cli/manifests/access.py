"""What pypilot must be allowed in a cluster: to read the kinds of the registry, and what its parts say that they need.

Everything is limited by name where the API server can do that: not for `create`, nor for lists of whole kinds.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pypilot.cli.manifests.labels import LABELS
from pypilot.cluster import cluster_rules, publishing_rules, review_rules, role_rules, status_rules
from pypilot.kinds.base import Kind
from pypilot.sources.kubernetes.definitions import KIND as DEFINITIONS
from pypilot.upkeep.messages import message_rules

Rule = dict[str, list[str]]
RBAC_GROUP = "rbac.authorization.k8s.io"


@dataclass(frozen=True, slots=True)
class Rules:
    """What is allowed where."""

    cluster: list[Rule]
    """In the whole cluster."""
    namespace: list[Rule]
    """In each namespace, where only some are read."""
    root: list[Rule]
    """In the root namespace, in any case."""


def rules(
    kinds: Sequence[Kind], *, root_namespace: str, revision: str = "default", write_status: bool = False
) -> Rules:
    """All rules; those of the cluster and those of single namespaces are not needed together."""
    messages = message_rules(kinds) if write_status else []
    return Rules(
        cluster=[
            *_reading(kinds),
            _read(DEFINITIONS.group, DEFINITIONS.plural),
            *publishing_rules(),
            *status_rules(),
            *review_rules(),
            *cluster_rules(root_namespace, revision),
            *messages,
        ],
        namespace=[
            *_reading([kind for kind in kinds if kind.namespaced]),
            *publishing_rules(),
            *status_rules(),
            *review_rules(),
            *messages,
        ],
        root=role_rules(revision),
    )


def access(
    kinds: Sequence[Kind],
    *,
    root_namespace: str,
    namespaces: Sequence[str] = (),
    revision: str = "default",
    write_status: bool = False,
) -> list[dict[str, Any]]:
    """Roles and their bindings to the service account `pypilot` of the root namespace.

    Args:
        kinds: What is read.
        root_namespace: Where pypilot runs.
        namespaces: Only these and the root namespace are read, and nothing of the whole cluster; empty: everything.
        revision: Several in one cluster have names of their own.
        write_status: Messages are written into the status of Istio's objects.
    """
    allowed = rules(kinds, root_namespace=root_namespace, revision=revision, write_status=write_status)
    name = f"pypilot{_suffix(revision)}"
    if not namespaces:
        return [
            *_granted("ClusterRole", f"{name}-{root_namespace}", "", allowed.cluster, name, root_namespace),
            *_granted("Role", name, root_namespace, allowed.root, name, root_namespace),
        ]
    out: list[dict[str, Any]] = []
    for place in dict.fromkeys((root_namespace, *namespaces)):
        local = [*allowed.namespace, *(allowed.root if place == root_namespace else ())]
        out += _granted("Role", name, place, local, name, root_namespace)
    return out


def _suffix(revision: str) -> str:
    return "" if revision == "default" else f"-{revision}"


def _reading(kinds: Sequence[Kind]) -> list[Rule]:
    groups: dict[str, list[str]] = {}
    for kind in kinds:
        groups.setdefault(kind.group, []).append(kind.plural)
    return [_read(group, *sorted(plurals)) for group, plurals in sorted(groups.items())]


def _read(group: str, *plurals: str) -> Rule:
    return {"apiGroups": [group], "resources": list(plurals), "verbs": ["get", "list", "watch"]}


def _granted(
    kind: str, name: str, namespace: str, rules: Sequence[Rule], account: str, account_namespace: str
) -> list[dict[str, Any]]:
    """A role and its binding."""
    metadata = {"name": name, **({"namespace": namespace} if namespace else {}), "labels": dict(LABELS)}
    version = f"{RBAC_GROUP}/v1"
    return [
        {"apiVersion": version, "kind": kind, "metadata": metadata, "rules": list(rules)},
        {
            "apiVersion": version,
            "kind": f"{kind}Binding",
            "metadata": metadata,
            "roleRef": {"apiGroup": RBAC_GROUP, "kind": kind, "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": account_namespace}],
        },
    ]
