"""The small Kubernetes kinds: Namespace, Node and ServiceAccount."""

from typing import ClassVar

from pypilot.kinds.base import Kind, Object, Spec


class Namespace(Object, frozen=True, kw_only=True):
    """A Namespace: only labels and annotations matter (KSVC-037)."""

    KIND: ClassVar[str] = "Namespace"


class NodeAddress(Spec, frozen=True):
    """`status.addresses[]`."""

    type: str = ""
    address: str = ""


class NodeSystemInfo(Spec, frozen=True):
    """`status.nodeInfo`."""

    kubelet_version: str = ""


class NodeStatus(Spec, frozen=True):
    """`status`."""

    node_info: NodeSystemInfo = NodeSystemInfo()
    addresses: tuple[NodeAddress, ...] = ()


class Node(Object, frozen=True, kw_only=True):
    """A Node: topology labels (KSVC-033), its address outside (KSVC-017), the version of its kubelet (INJ-005)."""

    KIND: ClassVar[str] = "Node"

    status: NodeStatus = NodeStatus()

    @property
    def external_address(self) -> str:
        """Its first ExternalIP, or the empty string."""
        return next((a.address for a in self.status.addresses if a.type == "ExternalIP" and a.address), "")


class ServiceAccount(Object, frozen=True, kw_only=True):
    """A ServiceAccount: its existence only."""

    KIND: ClassVar[str] = "ServiceAccount"


NAMESPACE = Kind(Namespace, "", ("v1",), "namespaces", namespaced=False, open_fields=("*",))
NODE = Kind(Node, "", ("v1",), "nodes", namespaced=False, open_fields=("*",))
SERVICE_ACCOUNT = Kind(ServiceAccount, "", ("v1",), "serviceaccounts", open_fields=("*",))
