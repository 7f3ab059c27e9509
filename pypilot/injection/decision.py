"""Whether a pod is injected (INJ-002, INJ-003, INJ-004). Pure.

The labels of its namespace have been looked at by then: the webhook is asked only for pods that they allow.
"""

from typing import Any, Final

from pypilot.injection.config import InjectionConfig
from pypilot.injection.names import INJECT

IGNORED_NAMESPACES: Final = frozenset({"kube-system", "kube-public", "kube-node-lease", "local-path-storage"})


def injection_wanted(pod: dict[str, Any], namespace: str, config: InjectionConfig) -> bool:
    """True if a pod (as `checked` gives it) gets a sidecar.

    hostNetwork and system namespaces never do; then the pod's label, its annotation, `neverInjectSelector`,
    `alwaysInjectSelector` and the policy speak, in that order. A word other than true and false says nothing.
    """
    if pod["spec"].get("hostNetwork") or namespace in IGNORED_NAMESPACES:
        return False
    labels, annotations = pod["metadata"]["labels"], pod["metadata"]["annotations"]
    said = labels.get(INJECT, annotations.get(INJECT, ""))
    if said in ("true", "false"):
        return bool(said == "true")
    for selectors, verdict in ((config.never_inject_selector, False), (config.always_inject_selector, True)):
        # An empty selector selects nobody here.
        if any((s.match_labels or s.match_expressions) and s.matches(labels) for s in selectors):
            return verdict
    return config.policy == "enabled"
