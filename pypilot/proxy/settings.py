"""What an agent was told: the variables that injection sets, in Istio's words (INJ-011, PC-001…006, NODE rows).

Read once, then frozen. This is the only module of the agent that reads the environment's mapping, which its caller
hands over.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal

import yaml

Role = Literal["sidecar", "router", "waypoint"]
ROLES: Final[tuple[Role, ...]] = ("sidecar", "router", "waypoint")
_META: Final = "ISTIO_META_"
_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_METAJSON: Final = "ISTIO_METAJSON_"
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


class AgentError(ValueError):
    """Something is missing or cannot be read; names the variable."""


def seconds_of(text: str, name: str) -> float:
    """`1h30m`, `500ms`, or plain seconds.

    Raises:
        AgentError: it is none of these.
    """
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = _DURATION.findall(text)
    if not parts or "".join(f"{n}{u}" for n, u in parts) != text:
        raise AgentError(f"{name}: {text!r} is not a duration")
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyConfig:
    """The part of Istio's ProxyConfig that an agent acts on (PC-002, PC-003)."""

    discovery_address: str = "istiod.istio-system.svc:15012"
    admin_port: int = 15000
    status_port: int = 15020
    drain_seconds: float = 45.0
    termination_drain_seconds: float = 5.0
    concurrency: int | None = None
    """Worker threads; 0 is one a core, None is 2."""
    stat_name_length: int = 189
    inclusion_prefixes: tuple[str, ...] = ()
    inclusion_suffixes: tuple[str, ...] = ()
    inclusion_regexps: tuple[str, ...] = ()
    """`proxyStatsMatcher`: metrics to make beside the default ones (BOOT-006)."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """`proxyMetadata` (PC-006)."""
    raw: Mapping[str, Any] = field(default_factory=dict)
    """All of it, which the control plane reads from the node's metadata."""


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
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Of the node, beside what is known by itself (`ISTIO_META_*`)."""
    probes: Mapping[str, Any] = field(default_factory=dict)
    """Path at the agent -> the application's own probe (BOOT-008)."""
    application_metrics: str = ""
    """URL of the application's metrics, which are served with Envoy's (MESH-040)."""
    dns: DnsSettings | None = None
    quit_allowed: bool = True
    """`/quitquitquit` on loopback ends the agent."""
    envoy: str = ""
    """The Envoy to run; the wheel's or the one on the PATH if empty."""

    @property
    def identity(self) -> str:
        """The SPIFFE id that it asks for."""
        return f"spiffe://{self.trust_domain}/ns/{self.namespace}/sa/{self.service_account}"


def _yaml(text: str, name: str) -> Mapping[str, Any]:
    try:
        found = yaml.safe_load(text) if text.strip() else {}
    except yaml.YAMLError:
        raise AgentError(f"{name}: not valid YAML") from None
    if not isinstance(found, dict):
        raise AgentError(f"{name}: not an object")
    return found


def _number(data: Mapping[str, Any], key: str, default: int, name: str) -> int:
    value = data.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise AgentError(f"{name}: {key}: {value!r} is not a number")
    return value


def _texts(value: Any) -> tuple[str, ...]:
    return tuple(v for v in value if isinstance(v, str)) if isinstance(value, list) else ()


def read_proxy_config(text: str, name: str = "PROXY_CONFIG") -> ProxyConfig:
    """A ProxyConfig from its YAML or JSON.

    Raises:
        AgentError: a part that the agent acts on cannot be read.
    """
    data = _yaml(text, name)
    default = ProxyConfig()
    matcher = data.get("proxyStatsMatcher")
    matcher = matcher if isinstance(matcher, dict) else {}
    metadata = data.get("proxyMetadata")
    drain = data.get("drainDuration")
    termination = data.get("terminationDrainDuration")
    return ProxyConfig(
        discovery_address=str(data.get("discoveryAddress") or default.discovery_address),
        admin_port=_number(data, "proxyAdminPort", default.admin_port, name),
        status_port=_number(data, "statusPort", default.status_port, name),
        drain_seconds=seconds_of(str(drain), name) if drain else default.drain_seconds,
        termination_drain_seconds=seconds_of(str(termination), name)
        if termination
        else default.termination_drain_seconds,
        concurrency=_number(data, "concurrency", 0, name) if data.get("concurrency") is not None else None,
        stat_name_length=_number(data, "statNameLength", default.stat_name_length, name),
        inclusion_prefixes=_texts(matcher.get("inclusionPrefixes")),
        inclusion_suffixes=_texts(matcher.get("inclusionSuffixes")),
        inclusion_regexps=_texts(matcher.get("inclusionRegexps")),
        metadata={str(k): str(v) for k, v in metadata.items()} if isinstance(metadata, dict) else {},
        raw=MappingProxyType(dict(data)),
    )


def _metadata(environment: Mapping[str, str]) -> dict[str, Any]:
    """`ISTIO_META_*` as texts, `ISTIO_METAJSON_*` as what they say."""
    found: dict[str, Any] = {}
    for name, value in environment.items():
        if name.startswith(_META):
            found[name.removeprefix(_META)] = value
        elif name.startswith(_METAJSON):
            try:
                found[name.removeprefix(_METAJSON)] = json.loads(value)
            except ValueError:
                raise AgentError(f"{name}: not valid JSON") from None
    return found


def _labels(path: Path) -> dict[str, str]:
    """Labels as the downward API writes them: `key="value"` a line."""
    found = {}
    for line in path.read_text().splitlines() if path.is_file() else ():
        key, separator, value = line.partition("=")
        if separator:
            try:
                found[key] = str(json.loads(value))
            except ValueError:
                found[key] = value
    return found


def _json(environment: Mapping[str, str], name: str) -> dict[str, Any]:
    text = environment.get(name, "")
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        raise AgentError(f"{name}: not valid JSON") from None
    if not isinstance(found, dict):
        raise AgentError(f"{name}: not an object")
    return found


def flag(environment: Mapping[str, str], name: str, default: bool = False) -> bool:
    """A variable that is true or false, as Go reads it.

    Raises:
        AgentError: it is neither.
    """
    text = environment.get(name, "")
    if not text:
        return default
    if text not in _TRUE | _FALSE:
        raise AgentError(f"{name}: {text!r} is neither true nor false")
    return text in _TRUE


def _dns(environment: Mapping[str, str], role: Role) -> DnsSettings | None:
    """For sidecars whose DNS is captured, and for gateways that are asked to (BOOT-002)."""
    captures = flag(environment, "ISTIO_META_DNS_CAPTURE") and role == "sidecar"
    if not flag(environment, "ISTIO_META_ENABLE_DNS_SERVER") and not captures:
        return None
    text = environment.get("DNS_PROXY_ADDR") or "localhost:15053"
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    if not port.isdecimal() or not 0 <= int(port) < 1 << 16:
        raise AgentError(f"DNS_PROXY_ADDR: {text!r}: want HOST:PORT")
    is_local = host in ("", "localhost")
    if not is_local:
        try:
            ip_address(host)
        except ValueError:
            raise AgentError(f"DNS_PROXY_ADDR: {host!r} is not an address") from None
    return DnsSettings(
        addresses=tuple((h, int(port)) for h in (("127.0.0.1", "::1") if is_local else (host,))),
        named=not is_local,
        upstream_seconds=seconds_of(environment.get("DNS_FORWARD_TIMEOUT") or "5s", "DNS_FORWARD_TIMEOUT"),
        upstream_at_once=flag(environment, "DNS_FORWARD_PARALLEL"),
    )


def _needed(environment: Mapping[str, str], *names: str) -> str:
    for name in names:
        if value := environment.get(name, ""):
            return value
    raise AgentError(f"{names[0]}: is needed")


def read_agent_settings(role: Role, environment: Mapping[str, str], domain: str = "") -> AgentSettings:
    """Settings from the environment of the container.

    Raises:
        AgentError: a variable is missing, or cannot be read.
    """
    namespace = _needed(environment, "POD_NAMESPACE")
    config = read_proxy_config(environment.get("PROXY_CONFIG", ""))
    merged = {**config.metadata, **environment}
    addresses = tuple(a.strip() for a in _needed(merged, "INSTANCE_IPS", "INSTANCE_IP").split(",") if a.strip())
    discovery = merged.get("DISCOVERY_ADDRESS") or config.discovery_address
    host = discovery.rpartition(":")[0]
    return AgentSettings(
        role=role,
        pod=_needed(merged, "POD_NAME"),
        namespace=namespace,
        addresses=addresses,
        service_account=merged.get("SERVICE_ACCOUNT") or "default",
        domain=domain or f"{namespace}.svc.cluster.local",
        trust_domain=merged.get("TRUST_DOMAIN") or "cluster.local",
        config=config if not merged.get("DISCOVERY_ADDRESS") else _with_discovery(config, discovery),
        ca_address=merged.get("CA_ADDR") or discovery,
        control_plane_name=merged.get("XDS_SERVER_NAME") or merged.get("ISTIOD_SAN") or host,
        token=Path(merged.get("JWT_PATH") or "/var/run/secrets/tokens/istio-token"),
        root=Path(merged.get("XDS_ROOT_CA") or "/var/run/secrets/istio/root-cert.pem"),
        state=Path(merged.get("PROXY_STATE_DIR") or "/var/run/secrets/workload-spiffe-uds"),
        certificate_seconds=seconds_of(merged.get("SECRET_TTL") or "24h", "SECRET_TTL"),
        labels=_labels(Path(merged.get("POD_LABELS_PATH") or "/etc/istio/pod/labels")),
        metadata={**_metadata(merged), **({"DNS_PROXY_ADDR": a} if (a := merged.get("DNS_PROXY_ADDR")) else {})},
        probes=_json(merged, "ISTIO_KUBE_APP_PROBERS"),
        application_metrics=_application_metrics(_json(merged, "ISTIO_PROMETHEUS_ANNOTATIONS")),
        dns=_dns(merged, role),
        quit_allowed=merged.get("ENABLE_QUITQUITQUIT", "true").lower() == "true",
        envoy=merged.get("ENVOY", ""),
    )


def _with_discovery(config: ProxyConfig, address: str) -> ProxyConfig:
    values = {name: getattr(config, name) for name in ProxyConfig.__slots__}
    return ProxyConfig(**{**values, "discovery_address": address})


def _application_metrics(said: Mapping[str, Any]) -> str:
    """What the pod's `prometheus.io` annotations said before they were replaced."""
    if str(said.get("scrape", "")).lower() == "false" or not said.get("port"):
        return ""
    return f"http://127.0.0.1:{said['port']}{said.get('path') or '/metrics'}"
