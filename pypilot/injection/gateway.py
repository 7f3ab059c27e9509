"""The built-in template `gateway`: fills a pod whose container `istio-proxy` has the image `auto` (INJ-017). Pure."""

from collections.abc import Mapping
from typing import Any, Final

from pypilot.injection import parts
from pypilot.injection.names import PROXY
from pypilot.injection.pod import Json
from pypilot.injection.target import Target

_USER: Final = 1337


def gateway_template(target: Target, proxy_config: Mapping[str, Any]) -> Json:
    """A part of a Pod, to be merged over the pod's own. Its ports may be below 1024 without any capability."""
    values = target.values
    return {
        "metadata": parts.metadata(target),
        "spec": {
            "securityContext": {"sysctls": [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "0"}]},
            "containers": [
                {
                    "name": PROXY,
                    "image": target.image,
                    **parts.pull_policy(target),
                    "ports": [{"containerPort": 15090, "protocol": "TCP", "name": "http-envoy-prom"}],
                    "args": parts.arguments(target, "router"),
                    **({"lifecycle": dict(values.lifecycle)} if values.lifecycle else {}),
                    "securityContext": {"runAsUser": _USER, "runAsGroup": _USER},
                    "env": parts.variables(target, proxy_config),
                    "readinessProbe": {
                        "httpGet": {"path": "/healthz/ready", "port": 15021},
                        "timeoutSeconds": 3,
                        "initialDelaySeconds": values.readiness_initial_delay_seconds,
                        "periodSeconds": values.readiness_period_seconds,
                        "failureThreshold": values.readiness_failure_threshold,
                    },
                    "volumeMounts": parts.mounts(target),
                }
            ],
            "volumes": parts.volumes(target),
            **parts.pull_secrets(target),
        },
    }
