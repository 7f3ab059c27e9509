"""The MutatingWebhookConfiguration: which pods the API server asks us about, by labels (INJ-001, INJ-002, KSVC-037)."""

from typing import Any, Final

from pypilot.injection.names import INJECT, REVISION
from pypilot.webhook.injector import PATH

NAMESPACE_LABEL: Final = "istio-injection"
_API = "admissionregistration.k8s.io/v1"
_ISTIO_NAMESPACE: Final = "istio-system"


def configuration_name(namespace: str, revision: str = "default") -> str:
    """The name of the configuration, which is Istio's."""
    parts = ["istio-sidecar-injector", *([] if _is_default(revision) else [revision])]
    return "-".join([*parts, *([] if namespace == _ISTIO_NAMESPACE else [namespace])])


def webhook_configuration(namespace: str, revision: str = "default") -> dict[str, Any]:
    """The object to install.

    It fails if nobody answers: a pod that should be in the mesh must not start outside of it. Labels of the namespace
    win over those of the pod, except that a pod can always stay out; `istio-injection` wins over `istio.io/rev`.
    """
    revision = revision or "default"
    stays_in = _wants(INJECT, "NotIn", "false")
    hooks = {
        "rev.namespace": ([_wants(REVISION, "In", revision), _wants(NAMESPACE_LABEL, "DoesNotExist")], [stays_in]),
        "rev.object": (
            [_wants(REVISION, "DoesNotExist"), _wants(NAMESPACE_LABEL, "DoesNotExist")],
            [stays_in, _wants(REVISION, "In", revision)],
        ),
    }
    if _is_default(revision):
        hooks["namespace"] = [_wants(NAMESPACE_LABEL, "In", "enabled")], [stays_in]
        hooks["object"] = (
            [_wants(NAMESPACE_LABEL, "DoesNotExist"), _wants(REVISION, "DoesNotExist")],
            [_wants(INJECT, "In", "true"), _wants(REVISION, "DoesNotExist")],
        )
    service = {
        "name": "istiod" if _is_default(revision) else f"istiod-{revision}",
        "namespace": namespace,
        "path": PATH,
        "port": 443,
    }
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"], "scope": "*"}
    return {
        "apiVersion": _API,
        "kind": "MutatingWebhookConfiguration",
        "metadata": {
            "name": configuration_name(namespace, revision),
            "labels": {"app": "sidecar-injector", REVISION: revision},
        },
        "webhooks": [
            {
                "name": f"{name}.sidecar-injector.istio.io",
                "clientConfig": {"service": dict(service)},
                "rules": [rule],
                "namespaceSelector": {"matchExpressions": of_namespace},
                "objectSelector": {"matchExpressions": of_pod},
                "failurePolicy": "Fail",
                "reinvocationPolicy": "Never",
                "sideEffects": "None",
                "admissionReviewVersions": ["v1"],
                "timeoutSeconds": 10,
            }
            for name, (of_namespace, of_pod) in hooks.items()
        ],
    }


def _is_default(revision: str) -> bool:
    return revision in ("", "default")


def _wants(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": operator, **({"values": list(values)} if values else {})}
