"""The ValidatingWebhookConfiguration, and the test after which it insists (VAL-001)."""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from pypilot.kinds.base import Kind
from pypilot.kinds.gateway_validation import KIND as GATEWAY
from pypilot.kube.connection import WritingConnection
from pypilot.kube.errors import ApiError
from pypilot.kube.objects import Collection

WEBHOOK: Final = "pypilot.validation.istio.io"
PATH: Final = "/validate"
_API = "admissionregistration.k8s.io/v1"


def configuration_name(namespace: str, revision: str = "default") -> str:
    """The name of the ValidatingWebhookConfiguration."""
    return "-".join(["pypilot-validator", *([revision] if revision not in ("", "default") else []), namespace])


def validation_rules(kinds: Iterable[Kind]) -> list[dict[str, Any]]:
    """`webhooks[].rules`: Istio's kinds, as far as pypilot reads them."""
    groups: dict[str, set[str]] = {}
    for kind in kinds:
        if kind.group.endswith("istio.io"):
            groups.setdefault(kind.group, set()).add(kind.plural)
    return [
        {
            "apiGroups": [group],
            "apiVersions": ["*"],
            "operations": ["CREATE", "UPDATE"],
            "resources": sorted(resources),
            "scope": "*",
        }
        for group, resources in sorted(groups.items())
    ]


def webhook_configuration(kinds: Iterable[Kind], namespace: str, revision: str = "default") -> dict[str, Any]:
    """The object to install; it blocks nobody until a running control plane has proved itself."""
    is_default = revision in ("", "default")
    selector = {} if is_default else {"objectSelector": {"matchLabels": {"istio.io/rev": revision}}}
    service = {
        "name": "istiod" if is_default else f"istiod-{revision}",
        "namespace": namespace,
        "path": PATH,
        "port": 443,
    }
    return {
        "apiVersion": _API,
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {
            "name": configuration_name(namespace, revision),
            "labels": {"app": "pypilot", "istio.io/rev": revision or "default"},
        },
        "webhooks": [
            {
                "name": WEBHOOK,
                "clientConfig": {"service": service},
                "rules": validation_rules(kinds),
                "failurePolicy": "Ignore",
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
                "timeoutSeconds": 5,
                **selector,
            }
        ],
    }


def self_test(connection: WritingConnection, namespace: str, revision: str) -> Callable[[set[str]], Awaitable[str]]:
    """A test for `Registration`: whether one of our webhooks denies a wrong object."""
    test = _SelfTest(connection, namespace, revision)
    return test.run


class _SelfTest:
    def __init__(self, connection: WritingConnection, namespace: str, revision: str) -> None:
        self._connection = connection
        self._namespace = namespace
        self._revision = revision

    async def run(self, webhooks: set[str]) -> str:
        """Try to write a Gateway that is wrong; why it was not us who denied it, empty if it was."""
        reason = ""
        for version in GATEWAY.versions:
            collection = Collection(f"{GATEWAY.group}/{version}", GATEWAY.plural, self._namespace)
            try:
                await self._connection.send("POST", f"{collection.path}?dryRun=All", self._wrong(version), seconds=15.0)
            except ApiError as error:
                if any(f'webhook "{name}" denied' in str(error) for name in webhooks):
                    return ""
                reason = str(error)
                if error.status != 404:
                    return reason
            else:
                return "the API server accepted a wrong object"
        return reason

    def _wrong(self, version: str) -> dict[str, Any]:
        """A server for HTTPS without TLS settings (VAL-005): the schema allows it, the parser does not."""
        port = {"number": 443, "name": "https", "protocol": "HTTPS"}
        return {
            "apiVersion": f"{GATEWAY.group}/{version}",
            "kind": GATEWAY.name,
            "metadata": {
                "name": "pypilot-self-test",
                "namespace": self._namespace,
                "labels": {"istio.io/rev": self._revision},
            },
            "spec": {"selector": {"app": "none"}, "servers": [{"port": port, "hosts": ["*"]}]},
        }
