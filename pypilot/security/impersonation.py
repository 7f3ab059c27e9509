"""Who may have a certificate of another: a node's ztunnel, for the pods of its own node (CA-004).

The node is that of the caller's own pod, which its token names; a caller that proved itself otherwise has none.
"""

import re
from collections.abc import Callable, Collection, Mapping
from typing import Final, Protocol

from pypilot.kinds.pod import Pod

_SPIFFE: Final = re.compile(r"spiffe://(?P<td>[^/]+)/ns/(?P<ns>[^/]+)/sa/(?P<sa>[^/]+)")
_OVER: Final = ("Succeeded", "Failed")

Pods = Mapping[tuple[str, str], Pod]


class Caller(Protocol):
    """Who asks for a certificate, proved; `str` of it is its SPIFFE id."""

    @property
    def trust_domain(self) -> str: ...
    @property
    def namespace(self) -> str: ...
    @property
    def service_account(self) -> str: ...
    @property
    def pod(self) -> str:
        """The pod that the caller's token is bound to, or the empty string."""
        ...


class Impersonation:
    """Answers from the pods that there are at that moment."""

    def __init__(self, pods: Callable[[], Pods], trusted: Collection[str]) -> None:
        """`pods` gives the same mapping until one changes; `trusted` are service accounts, `namespace/name`."""
        self._pods = pods
        self._trusted = frozenset(trusted)
        self._seen: Pods | None = None
        self._accounts: dict[str, set[tuple[str, str]]] = {}

    def allows(self, caller: Caller, identity: str) -> bool:
        """True if the caller is trusted, and a pod of that SPIFFE id runs on its node."""
        if f"{caller.namespace}/{caller.service_account}" not in self._trusted or not caller.pod:
            return False
        wanted = _SPIFFE.fullmatch(identity)
        agent = self._pods().get((caller.namespace, caller.pod))
        if wanted is None or wanted["td"] != caller.trust_domain or agent is None or not agent.spec.node_name:
            return False
        if _account(agent) != caller.service_account:
            return False
        return (wanted["ns"], wanted["sa"]) in self._by_node().get(agent.spec.node_name, ())

    def _by_node(self) -> Mapping[str, set[tuple[str, str]]]:
        pods = self._pods()
        if pods is not self._seen:
            accounts: dict[str, set[tuple[str, str]]] = {}
            for pod in pods.values():
                if pod.status.phase not in _OVER:
                    accounts.setdefault(pod.spec.node_name, set()).add((pod.namespace, _account(pod)))
            self._accounts, self._seen = accounts, pods
        return self._accounts


def _account(pod: Pod) -> str:
    return pod.spec.service_account_name or "default"
