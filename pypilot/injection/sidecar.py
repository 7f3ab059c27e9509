"""The built-in template `sidecar`: init container and proxy (INJ-005…008, INJ-012, INJ-013). Pure."""

import copy
import json
from collections.abc import Mapping
from typing import Any, Final

from pypilot.injection import parts
from pypilot.injection.names import INIT, PROXY, readiness_annotation, sidecar_annotation
from pypilot.injection.pod import Json
from pypilot.injection.target import Target

_USER: Final = 1337
_PROXY_PORTS: Final = ("15090", "15021")
"""Never captured: whoever asks them speaks no mutual TLS."""
_QUANTITIES: Final = {
    "requests": {"cpu": "proxyCPU", "memory": "proxyMemory"},
    "limits": {"cpu": "proxyCPULimit", "memory": "proxyMemoryLimit"},
}


def sidecar_template(target: Target, proxy_config: Mapping[str, Any]) -> Json:
    """A part of a Pod, to be merged over the pod's own."""
    proxy, init = _proxy(target, proxy_config), _init(target)
    spec: Json = {
        "initContainers": [*init, *([proxy] if target.native else ())],
        "containers": [] if target.native else [proxy],
        "volumes": [*parts.volumes(target), *_user_parts(target, "userVolume", {})],
        **parts.pull_secrets(target),
    }
    metadata = parts.metadata(target)
    labels = target.pod["metadata"]["labels"]
    metadata["labels"]["security.istio.io/tlsMode"] = labels.get("security.istio.io/tlsMode") or "istio"
    if target.metadata.get("ISTIO_META_ENABLE_HBONE") == "true":
        metadata["labels"]["networking.istio.io/tunnel"] = labels.get("networking.istio.io/tunnel") or "http"
    return {"metadata": metadata, "spec": spec}


def _user_parts(target: Target, name: str, default: Json) -> list[Json]:
    """Volumes or mounts by an annotation: a JSON object, by name."""
    given = json.loads(target.side(name, "{}"))
    return [{"name": key, **(value or default)} for key, value in given.items()]


def _init(target: Target) -> list[Json]:
    """The container that captures the pod's traffic (INJ-006, INJ-015), unless nothing is captured."""
    if target.mode == "NONE":
        return []
    values, traffic = target.values, target.traffic
    more = traffic("excludeInboundPorts", values.exclude_inbound_ports).split(",")
    more += [str(target.status_port)] if target.status_port else []
    excluded = dict.fromkeys((*_PROXY_PORTS, *(port.strip() for port in more if port.strip())))
    arguments = [
        "istio-iptables",
        *("-p", str(target.installation.proxy_port), "-z", str(target.installation.inbound_port)),
        *("-u", str(_USER), "-m", target.mode),
        *("-i", traffic("includeOutboundIPRanges", values.include_ip_ranges)),
        *("-x", traffic("excludeOutboundIPRanges", values.exclude_ip_ranges)),
        *("-b", traffic("includeInboundPorts", values.include_inbound_ports)),
        *("-d", ",".join(excluded)),
    ]
    interfaces = target.said("istio.io/reroute-virtual-interfaces", traffic("kubevirtInterfaces", ""))
    for flag, text in (
        ("-q", traffic("includeOutboundPorts", values.include_outbound_ports)),
        ("-o", traffic("excludeOutboundPorts", values.exclude_outbound_ports)),
        ("-k", interfaces),
        ("-c", traffic("excludeInterfaces", "")),
    ):
        arguments += [flag, text] if text else []
    if target.metadata.get("ISTIO_META_DNS_CAPTURE") == "true":
        arguments.append("--redirect-dns")
    arguments.append(parts.log_level(target))
    environment = [{"name": n, "value": v} for n, v in target.metadata.items()]
    return [
        {
            "name": INIT,
            "image": target.image,
            **parts.pull_policy(target),
            "args": arguments,
            **({"env": environment} if environment else {}),
            "resources": _resources(target),
            "securityContext": {
                "allowPrivilegeEscalation": values.privileged,
                "privileged": values.privileged,
                "capabilities": {"add": ["NET_ADMIN", "NET_RAW"], "drop": ["ALL"]},
                "readOnlyRootFilesystem": False,
                "runAsGroup": 0,
                "runAsNonRoot": False,
                "runAsUser": 0,
                **_seccomp(target),
            },
        }
    ]


def _proxy(target: Target, proxy_config: Mapping[str, Any]) -> Json:
    return {
        "name": PROXY,
        "image": target.image,
        **parts.pull_policy(target),
        **({"restartPolicy": "Always"} if target.native else {}),
        "ports": [{"containerPort": 15090, "protocol": "TCP", "name": "http-envoy-prom"}],
        "args": parts.arguments(target, "sidecar"),
        **_lifecycle(target),
        "env": parts.variables(target, proxy_config),
        **_probes(target),
        "securityContext": _proxy_security(target),
        "resources": _resources(target),
        "volumeMounts": [*parts.mounts(target), *_user_parts(target, "userVolumeMount", {})],
    }


def _lifecycle(target: Target) -> Json:
    """What holds the application back until the proxy is ready (PC-005).

    Native sidecars do that by themselves. They are asked to end only after the application has, so draining starts
    with the pod's end (INJ-005).
    """
    if target.values.lifecycle:
        return {"lifecycle": dict(target.values.lifecycle)}
    if not target.native:
        command = ["pilot-agent", "wait"]
        return {"lifecycle": {"postStart": {"exec": {"command": command}}}} if holds_application(target) else {}
    if not target.status_port:
        return {}
    command = ["pilot-agent", "request", f"--debug-port={target.status_port}", "POST", "drain"]
    return {"lifecycle": {"preStop": {"exec": {"command": command}}}}


def holds_application(target: Target) -> bool:
    """`holdApplicationUntilProxyStarts` (PC-005)."""
    said = target.proxy_config.get("holdApplicationUntilProxyStarts")
    return said is True or target.values.hold_application_until_proxy_starts


def _probes(target: Target) -> Json:
    """INJ-008, INJ-016."""
    if not target.status_port:
        return {}
    values = target.values

    def number(name: str, default: int) -> int:
        return int(target.said(readiness_annotation(name), str(default)))

    ready = {"httpGet": {"path": "/healthz/ready", "port": 15021}, "timeoutSeconds": 3}
    startup = {
        **ready,
        "initialDelaySeconds": 0,
        "periodSeconds": 1,
        "failureThreshold": values.startup_failure_threshold,
    }
    return {
        **({"startupProbe": startup} if values.startup_failure_threshold else {}),
        "readinessProbe": {
            **ready,
            "initialDelaySeconds": number("initialDelaySeconds", values.readiness_initial_delay_seconds),
            "periodSeconds": number("periodSeconds", values.readiness_period_seconds),
            "failureThreshold": number("failureThreshold", values.readiness_failure_threshold),
        },
    }


def _proxy_security(target: Target) -> Json:
    """INJ-013; transparent interception and ports below 1024 need root with these capabilities."""
    values = target.values
    added = ["NET_ADMIN"] if target.mode == "TPROXY" else []
    if target.side("capNetBindService", str(values.cap_net_bind_service).lower()) == "true":
        added.append("NET_BIND_SERVICE")
    return {
        "allowPrivilegeEscalation": values.privileged,
        "capabilities": {**({"add": added} if added else {}), "drop": ["ALL"]},
        "privileged": values.privileged,
        "readOnlyRootFilesystem": True,
        "runAsNonRoot": not added,
        "runAsUser": 0 if added else _USER,
        "runAsGroup": _USER,
        **_seccomp(target),
    }


def _seccomp(target: Target) -> Json:
    profile = target.values.seccomp_profile
    return {"seccompProfile": dict(profile)} if profile else {}


def _resources(target: Target) -> Json:
    """As annotated, and then nothing else; as configured without annotations (INJ-014)."""
    said = {
        part: {key: text for key, name in names.items() if (text := target.annotations.get(sidecar_annotation(name)))}
        for part, names in _QUANTITIES.items()
    }
    annotated = {part: found for part, found in said.items() if found}
    return annotated or copy.deepcopy(target.values.resources)
