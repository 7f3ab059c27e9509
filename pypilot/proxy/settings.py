"""What an agent was told: the variables that injection sets, in Istio's words (INJ-011, PC-001…006, NODE rows).

Read once, then frozen. This is the only module of the agent that reads the environment's mapping, which its caller
hands over.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final, Literal

from pypilot.proxy import cgroup
from pypilot.proxy.probes import defect
from pypilot.proxy.proxy_config import ProxyConfig, read_proxy_config
from pypilot.proxy.values import (
    PORTS,
    AgentError,
    flag_of,
    host_port_of,
    json_of,
    number_of,
    seconds_of,
    yaml_of,
)

__all__ = ["ROLES", "AgentError", "AgentSettings", "DnsSettings", "Role", "read_agent_settings"]

Role = Literal["sidecar", "router", "waypoint"]
ROLES: Final[tuple[Role, ...]] = ("sidecar", "router", "waypoint")
STATUS_PORT: Final = 15021
PROMETHEUS_PORT: Final = 15090
_META: Final = "ISTIO_META_"
_METAJSON: Final = "ISTIO_METAJSON_"
_PASSED_ON: Final = {"DNS_PROXY_ADDR": "DNS_PROXY_ADDR"}
"""Variables that the control plane is told as they are (NODE-020)."""
_REPLICA_LABEL: Final = "pod-template-hash"
_CONFIG: Final = "proxy.istio.io/config"
_DISCOVERY: Final = "sidecar.istio.io/discoveryAddress"
_STATUS: Final = "status.sidecar.istio.io/port"


@dataclass(frozen=True, slots=True, kw_only=True)
class DnsSettings:
    """That names are answered here (NODE-019, NODE-020)."""

    addresses: tuple[tuple[str, int], ...]
    """Where. Without an address that was named, one of IPv6 may be missing."""
    named: bool = False
    """Somebody named the address."""
    upstream_seconds: float = 5.0
    """How long one of the pod's resolvers is waited for."""
    upstream_at_once: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSettings:
    """Everything that an agent needs to know."""

    role: Role
    pod: str
    namespace: str
    addresses: tuple[str, ...]
    service_account: str
    domain: str
    trust_domain: str
    config: ProxyConfig
    ca_address: str
    control_plane_name: str
    """The name that the control plane's certificate must carry."""
    token: Path
    root: Path
    """Roots (PEM) by which the control plane is known, as published in every namespace."""
    state: Path
    """Directory for sockets and the bootstrap."""
    certificate_seconds: float
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Of the node, beside what is known by itself (`ISTIO_META_*`)."""
    probes: Mapping[str, Any] = field(default_factory=dict)
    """Path at the agent -> the application's own probe (BOOT-008)."""
    probe_localhost: bool = False
    """Probes go to loopback, as in old times, and not to the pod's address."""
    application_metrics: tuple[str, ...] = ()
    """URLs of the application's metrics, which are served with Envoy's (MESH-040)."""
    metrics_for_all: bool = True
    dns: DnsSettings | None = None
    quit_allowed: bool = True
    """`/quitquitquit` on loopback ends the agent."""
    envoy: str = ""
    """The Envoy to run; the wheel's or the one on the PATH if empty."""
    threads: int | None = None
    """Envoy's workers; None for one a core."""
    status_port: int = STATUS_PORT
    prometheus_port: int = PROMETHEUS_PORT
    ends_when_idle: bool = False
    """Drained, Envoy is given as long as it has connections."""
    least_drain_seconds: float = 5.0
    bootstrap_override: str = ""
    """Merged over the bootstrap by Envoy, JSON (BOOT-007)."""
    skip_deprecated_logs: bool = True
    deltas: bool = True
    """Envoy is told what changes, and not all of a type again (BOOT-003)."""

    @property
    def identity(self) -> str:
        """The SPIFFE id that it asks for."""
        return f"spiffe://{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"

    @property
    def is_ipv6(self) -> bool:
        """The pod's first address is of IPv6."""
        return ":" in self.addresses[0]


def _metadata(environment: Mapping[str, str]) -> dict[str, Any]:
    """`ISTIO_META_*` as texts. Objects of `ISTIO_METAJSON_*` are labels or annotations, and metadata of their own."""
    found: dict[str, Any] = {}
    for name, value in environment.items():
        if name.startswith(_METAJSON):
            try:
                said = json.loads(value)
            except ValueError:
                raise AgentError(f"{name}: not valid JSON") from None
            if name.removeprefix(_METAJSON) in ("LABELS", "ANNOTATIONS") and not isinstance(said, dict):
                raise AgentError(f"{name}: not an object")
            found |= said if isinstance(said, dict) else {name.removeprefix(_METAJSON): said}
    for name, value in environment.items():
        if name.startswith(_META):
            found[name.removeprefix(_META)] = value
    return found | {key: environment[name] for name, key in _PASSED_ON.items() if environment.get(name)}


def _downward(path: Path) -> dict[str, str]:
    """What the downward API writes: `key="value"` a line."""
    found = {}
    for line in path.read_text().splitlines() if path.is_file() else ():
        key, separator, value = line.partition("=")
        if separator:
            try:
                found[key] = str(json.loads(value))
            except ValueError:
                found[key] = value.strip('"')
    return found


def _texts(environment: Mapping[str, str], name: str) -> dict[str, str]:
    return {str(k): str(v) for k, v in json_of(environment, name).items()}


def _dns(environment: Mapping[str, str], role: Role) -> DnsSettings | None:
    """For sidecars whose DNS is captured, and for gateways that are asked to (BOOT-002)."""
    captures = flag_of(environment, "ISTIO_META_DNS_CAPTURE") and role == "sidecar"
    if not flag_of(environment, "ISTIO_META_ENABLE_DNS_SERVER") and not captures:
        return None
    where = host_port_of(environment.get("DNS_PROXY_ADDR") or "localhost:15053", "DNS_PROXY_ADDR")
    is_local = where.host == "localhost"
    if not is_local:
        try:
            ip_address(where.host)
        except ValueError:
            raise AgentError(f"DNS_PROXY_ADDR: {where.host!r} is not an address") from None
    return DnsSettings(
        addresses=tuple((h, where.port) for h in (("127.0.0.1", "::1") if is_local else (where.host,))),
        named=not is_local,
        upstream_seconds=seconds_of(environment.get("DNS_FORWARD_TIMEOUT") or "5s", "DNS_FORWARD_TIMEOUT"),
        upstream_at_once=flag_of(environment, "DNS_FORWARD_PARALLEL"),
    )


def _needed(environment: Mapping[str, str], *names: str) -> str:
    for name in names:
        if value := environment.get(name, ""):
            return value
    raise AgentError(f"{names[0]}: is needed")


def _addresses(environment: Mapping[str, str]) -> tuple[str, ...]:
    found = []
    for text in _needed(environment, "INSTANCE_IPS", "INSTANCE_IP").split(","):
        if text.strip():
            try:
                found.append(str(ip_address(text.strip())))
            except ValueError:
                raise AgentError(f"INSTANCE_IP: {text.strip()!r} is not an address") from None
    if not found:
        raise AgentError("INSTANCE_IP: is needed")
    return tuple(dict.fromkeys(found))


def _probes(environment: Mapping[str, str]) -> dict[str, Any]:
    name = "ISTIO_KUBE_APP_PROBERS"
    found = json_of(environment, name)
    for path, said in found.items():
        if wrong := defect(path, said):
            raise AgentError(f"{name}: {path}: {wrong}")
    return found


def _threads(environment: Mapping[str, str], config: ProxyConfig) -> int | None:
    """What ProxyConfig says, else as many as the container may use (PC-003)."""
    limit = number_of(environment, "ISTIO_CPU_LIMIT", 0, range(1 << 16)) or cgroup.processors()
    wanted = limit if config.concurrency is None else config.concurrency
    return wanted or None


def _application_metrics(environment: Mapping[str, str], status_port: int) -> tuple[str, ...]:
    """What the pod's `prometheus.io` annotations said before they were replaced."""
    name = "ISTIO_PROMETHEUS_ANNOTATIONS"
    said = json_of(environment, name)
    targets = said.get("targets") or ([said] if environment.get(name) else [])
    if str(said.get("scrape", "")).lower() == "false":
        return ()
    if not isinstance(targets, list) or not all(isinstance(t, dict) for t in targets):
        raise AgentError(f"{name}: targets: want a list of objects")
    found = []
    for target in targets:
        port = str(target.get("port") or "80")
        if not port.isdecimal() or int(port) not in PORTS:
            raise AgentError(f"{name}: port: {port!r} is not a port")
        if int(port) == status_port:
            raise AgentError(f"{name}: port: {port} is the agent's own")
        path = str(target.get("path") or "/metrics")
        found.append(f"http://127.0.0.1:{int(port)}/{path.removeprefix('/')}")
    return tuple(found)


def _config(environment: Mapping[str, str], annotations: Mapping[str, str], mesh_file: str) -> ProxyConfig:
    """MeshConfig's file < PROXY_CONFIG < the pod's annotations < variables of the agent (PC-001)."""
    layers = []
    if mesh_file and Path(mesh_file).is_file():
        default = yaml_of(Path(mesh_file).read_text(), mesh_file).get("defaultConfig")
        layers.append((f"{mesh_file}: defaultConfig", json.dumps(default or {}, default=str)))
    layers.append(("PROXY_CONFIG", environment.get("PROXY_CONFIG", "")))
    layers.append((_CONFIG, annotations.get(_CONFIG, "")))
    config = read_proxy_config(*(layer for layer in layers if layer[1]), host_ip=environment.get("HOST_IP", ""))
    if address := environment.get("DISCOVERY_ADDRESS") or annotations.get(_DISCOVERY):
        config = replace(config, discovery_address=address)
    if annotations.get(_STATUS):
        config = replace(config, status_port=number_of(annotations, _STATUS, 0, range(PORTS.stop)))
    return config


def _override(environment: Mapping[str, str]) -> str:
    name = "ISTIO_BOOTSTRAP_OVERRIDE"
    path = environment.get(name, "")
    if not path:
        return ""
    try:
        text = Path(path).read_text()
    except OSError as error:
        raise AgentError(f"{name}: {path}: {error.strerror}") from None
    return json.dumps(yaml_of(text.replace("$(HOST_IP)", environment.get("HOST_IP", "")), f"{name}: {path}"))


def read_agent_settings(
    role: Role, environment: Mapping[str, str], domain: str = "", mesh_file: str = ""
) -> AgentSettings:
    """Settings from the environment of the container.

    Args:
        role: What it runs.
        environment: Variables.
        domain: DNS domain of the proxy.
        mesh_file: Path of a MeshConfig, which need not be there.

    Raises:
        AgentError: a variable is missing, or cannot be read.
    """
    namespace = _needed(environment, "POD_NAMESPACE")
    podinfo = Path(environment.get("POD_LABELS_PATH") or "/etc/istio/pod/labels")
    annotations = _downward(Path(environment.get("POD_ANNOTATIONS_PATH") or podinfo.with_name("annotations")))
    config = _config(environment, annotations, mesh_file)
    merged = {**config.metadata, **environment}
    discovery = host_port_of(config.discovery_address, "discoveryAddress")
    ca_address = merged.get("CA_ADDR") or config.discovery_address
    host_port_of(ca_address, "CA_ADDR")
    labels = {**_texts(merged, f"{_METAJSON}LABELS"), **_downward(podinfo)}
    return AgentSettings(
        role=role,
        pod=_needed(merged, "POD_NAME"),
        namespace=namespace,
        addresses=_addresses(merged),
        service_account=merged.get("SERVICE_ACCOUNT") or "default",
        domain=domain or f"{namespace}.svc.cluster.local",
        trust_domain=merged.get("TRUST_DOMAIN") or "cluster.local",
        config=config,
        ca_address=ca_address,
        control_plane_name=merged.get("XDS_SERVER_NAME") or merged.get("ISTIOD_SAN") or discovery.host,
        token=Path(merged.get("JWT_PATH") or "/var/run/secrets/tokens/istio-token"),
        root=Path(merged.get("XDS_ROOT_CA") or "/var/run/secrets/istio/root-cert.pem"),
        state=Path(merged.get("PROXY_STATE_DIR") or "/var/run/secrets/workload-spiffe-uds"),
        certificate_seconds=_positive(merged, "SECRET_TTL", "24h"),
        labels={key: value for key, value in labels.items() if key != _REPLICA_LABEL},
        annotations={**_texts(merged, f"{_METAJSON}ANNOTATIONS"), **annotations},
        metadata=_metadata(merged),
        probes=_probes(merged),
        probe_localhost=flag_of(merged, "REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION"),
        application_metrics=_application_metrics(merged, config.status_port) if role == "sidecar" else (),
        metrics_for_all=not flag_of(merged, "METRICS_LOCALHOST_ACCESS_ONLY"),
        dns=_dns(merged, role),
        quit_allowed=flag_of(merged, "ENABLE_QUITQUITQUIT", default=True),
        envoy=_envoy(merged, config),
        threads=_threads(merged, config),
        status_port=number_of(merged, "ENVOY_STATUS_PORT", STATUS_PORT, PORTS),
        prometheus_port=number_of(merged, "ENVOY_PROMETHEUS_PORT", PROMETHEUS_PORT, PORTS),
        ends_when_idle=flag_of(merged, "EXIT_ON_ZERO_ACTIVE_CONNECTIONS"),
        least_drain_seconds=seconds_of(merged.get("MINIMUM_DRAIN_DURATION") or "5s", "MINIMUM_DRAIN_DURATION"),
        bootstrap_override=_override(merged),
        skip_deprecated_logs=flag_of(merged, "ENVOY_SKIP_DEPRECATED_LOGS", default=True),
        deltas=role == "waypoint" or flag_of(merged, "ISTIO_DELTA_XDS", default=True),
    )


def _positive(environment: Mapping[str, str], name: str, default: str) -> float:
    seconds = seconds_of(environment.get(name) or default, name)
    if seconds <= 0:
        raise AgentError(f"{name}: want more than nothing")
    return seconds


def _envoy(environment: Mapping[str, str], config: ProxyConfig) -> str:
    for name, path in (("ENVOY", environment.get("ENVOY", "")), ("binaryPath", config.binary_path)):
        if path and not (Path(path).is_file() and os.access(path, os.X_OK)):
            raise AgentError(f"{name}: {path}: no such program")
        if path:
            return path
    return ""
