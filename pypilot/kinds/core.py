"""The small Kubernetes kinds: Namespace, Node and ServiceAccount."""

from typing import ClassVar

from pypilot.kinds.base import Kind, Object


class Namespace(Object, frozen=True, kw_only=True):
    """A Namespace: only labels and annotations matter (KSVC-037)."""

    KIND: ClassVar[str] = "Namespace"


class Node(Object, frozen=True, kw_only=True):
    """A Node: topology labels (KSVC-033)."""

    KIND: ClassVar[str] = "Node"


class ServiceAccount(Object, frozen=True, kw_only=True):
    """A ServiceAccount: its existence only."""

    KIND: ClassVar[str] = "ServiceAccount"


NAMESPACE = Kind(Namespace, "", ("v1",), "namespaces", namespaced=False, open_fields=("*",))
NODE = Kind(Node, "", ("v1",), "nodes", namespaced=False, open_fields=("*",))
SERVICE_ACCOUNT = Kind(ServiceAccount, "", ("v1",), "serviceaccounts", open_fields=("*",))
