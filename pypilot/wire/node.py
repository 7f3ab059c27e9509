"""The identity of a proxy: an Envoy `Node` message read into a frozen, hashable `Proxy`.

Source: envoy.config.core.v3.Node; the NODE rows of Istio's conventions. Must not look at the world: labels and
localities that pilot re-reads from pods are the compiler's business.
"""

import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

ProxyType = Literal["sidecar", "router", "waypoint", "ztunnel"]
PROXY_TYPES: tuple[ProxyType, ...] = ("sidecar", "router", "waypoint", "ztunnel")

Labels = tuple[tuple[str, str], ...]
"""Labels in key order: hashable."""


_DNS_PORT = 15053
_SECURE_PORTS = ("ENVOY_SECURE_METRICS_PORT", "ENVOY_SECURE_MERGED_METRICS_PORT")
_LAST_PORT = 65535


class NodeError(ValueError):
    """A Node that no proxy may have (NODE-001, NODE-002, NODE-003)."""


@dataclass(frozen=True, slots=True)
class Locality:
    """Where something runs; empty strings where unknown."""

    region: str = ""
    zone: str = ""
    sub_zone: str = ""

    def __str__(self) -> str:
        return "/".join(p for p in (self.region, self.zone, self.sub_zone) if p)


class CertificateFiles(NamedTuple):
    """Paths of files beside a proxy, as its agent names them (NODE-023)."""

    chain: str = ""
    key: str = ""
    root: str = ""


@dataclass(frozen=True, slots=True)
class Proxy:
    """One proxy as its Node message describes it."""

    id: str
    type: ProxyType
    ips: tuple[str, ...]
    name: str
    namespace: str
    dns_domain: str
    cluster_id: str = ""
    """Empty for a proxy that names none: it is where the control plane is (NODE-012)."""
    service_account: str = ""
    labels: Labels = ()
    locality: Locality = Locality()
    network: str = ""
    mesh_id: str = ""
    node_name: str = ""
    workload_name: str = ""
    istio_version: str = ""
    """Empty for a proxy that is started neither by Istio's agent nor by ours."""
    user_agent_version: str = ""
    extensions: frozenset[str] | None = None
    """Names of the extensions that Envoy says it was built with; None where the node carries no list."""
    interception_mode: str = "REDIRECT"
    idle_timeout: str = ""
    http10: bool = False
    unprivileged: bool = False
    enable_hbone: bool = False
    disable_hbone_send: bool = False
    dns_capture: bool = False
    server_files: CertificateFiles = CertificateFiles()
    """In place of the mesh's certificate, for what comes in (NODE-023)."""
    client_files: CertificateFiles = CertificateFiles()
    """Likewise for what goes out; counts if there is a chain."""
    credential_socket: bool = False
    """Credentials named `sds://` come from a Unix socket beside the proxy (NODE-029)."""
    dns_proxy_addr: str = ""
    """Where the agent answers DNS queries (NODE-020)."""
    inbound_exact_balance: bool = False
    outbound_exact_balance: bool = False
    """Connections are shared out evenly among Envoy's threads (NODE-027)."""
    network_view: tuple[str, ...] = ()
    workload_sds: bool = False
    """True for an upstream Envoy whose bootstrap has the cluster `sds-grpc` that serves `default` and `ROOTCA`."""
    certificates_over_ads: bool = False
    """True for an Envoy without an agent that wants these over its own stream."""
    pod_ports: str = ""
    status_port: int = 15021
    prometheus_port: int = 15090
    secure_ports: tuple[int, ...] = ()
    """Where its bootstrap shows metrics over mutual TLS, if anywhere (NODE-026)."""
    self_discovery: bool = False
    """Its bootstrap has a cluster `local_cluster` that wants to know the proxy's like (EDS-014)."""
    register_group: str = ""
    """WorkloadGroup as whose member a machine registers itself (NODE-025)."""
    workload_entry: str = ""
    """WorkloadEntry that stands for it (NODE-025)."""
    probes_health: bool = False
    """Its agent reports its health."""
    proxy_config: str = ""
    """ProxyConfig that travelled in the node's metadata, canonical JSON (PC-001); empty for a node without one."""
    metadata: Labels = ()
    """All metadata that is text, for EnvoyFilters that match it (EF-004)."""

    @property
    def ip(self) -> str:
        """The first address: the proxy's identity for matching service targets."""
        return self.ips[0]

    @property
    def own_ports(self) -> tuple[int, ...]:
        """The ports of the bootstrap's listeners, which nothing else may take (NODE-026, LIS-015)."""
        return (self.status_port, self.prometheus_port, *self.secure_ports)

    @property
    def dns_resolver(self) -> tuple[str, int] | None:
        """Where an agent answers the proxy's DNS queries; None if none does (NODE-019, NODE-020)."""
        if not self.dns_capture:
            return None
        host, colon, port = self.dns_proxy_addr.rpartition(":")
        number = int(port) if port.isdecimal() and 0 < int(port) <= _LAST_PORT else _DNS_PORT
        host = host.strip("[]") if colon else ""
        return ("127.0.0.1" if host in ("", "localhost") else host), number

    @property
    def is_istio_build(self) -> bool:
        """True if Istio's own filters may be sent: it lists them, or lists nothing and says it is Istio's."""
        if self.extensions is not None:
            return "istio.alpn" in self.extensions or "envoy.filters.http.alpn" in self.extensions
        return bool(self.istio_version)

    @property
    def has_mesh_certificates(self) -> bool:
        """True if somebody serves it `default` and `ROOTCA`. A version alone says nothing: anybody can write it."""
        return self.is_istio_build or self.workload_sds or self.certificates_over_ads

    def label(self, key: str) -> str:
        """The value of a label, or the empty string."""
        for k, v in self.labels:
            if k == key:
                return v
        return ""


def _text(meta: Mapping[str, Any], key: str) -> str:
    value = meta.get(key, "")
    if value is None or isinstance(value, dict | list):
        return ""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _flag(meta: Mapping[str, Any], key: str) -> bool:
    return _text(meta, key).lower() in ("true", "1")


def _port(meta: Mapping[str, Any], key: str, default: int) -> int:
    text = _text(meta, key)
    return int(text) if text.isdecimal() and len(text) <= 5 and 0 < int(text) < 1 << 16 else default


def _words(meta: Mapping[str, Any], key: str) -> tuple[str, ...]:
    value = meta.get(key)
    words = [str(v) for v in value] if isinstance(value, list) else _text(meta, key).split(",")
    return tuple(w.strip() for w in words if w.strip())


def _addresses(words: tuple[str, ...]) -> tuple[str, ...]:
    out = []
    for word in words:
        try:
            out.append(str(ipaddress.ip_address(word)))
        except ValueError:
            continue
    return tuple(out)


def _files(meta: Mapping[str, Any], side: str) -> CertificateFiles:
    return CertificateFiles(*(_text(meta, f"{side}_{part}") for part in ("CERT_CHAIN", "KEY", "ROOT_CERT")))


def _whole(value: Any) -> Any:
    """The same JSON with integers for whole numbers: a `Struct`, as which metadata travels, has floats alone."""
    if isinstance(value, Mapping):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def parse_node(node: Mapping[str, Any]) -> Proxy:
    """Read a Node in proto3 JSON form (`{"id": …, "metadata": {…}}`, snake_case).

    Raises:
        NodeError: the id has not four parts, the type is unknown, or no address is valid.
    """
    node_id = str(node.get("id", ""))
    parts = node_id.split("~")
    if len(parts) != 4:
        raise NodeError(f"node id {node_id!r}: want TYPE~IP~NAME.NAMESPACE~DNS_DOMAIN")
    kind, id_ip, full_name, dns_domain = parts
    if kind not in PROXY_TYPES:
        raise NodeError(f"node id {node_id!r}: unknown proxy type {kind!r}, want one of {', '.join(PROXY_TYPES)}")
    meta: Mapping[str, Any] = node.get("metadata") or {}
    ips = _addresses(_words(meta, "INSTANCE_IPS")) or _addresses((id_ip,))
    if not ips:
        raise NodeError(f"node id {node_id!r}: no valid IP address in the id or in INSTANCE_IPS")
    name, _, id_namespace = full_name.partition(".")
    where = node.get("locality") or {}
    labels = meta.get("LABELS") or {}
    version = ((node.get("user_agent_build_version") or {}).get("version")) or {}
    extensions = node.get("extensions")
    return Proxy(
        id=node_id,
        type=kind,
        ips=ips,
        name=_text(meta, "NAME") or name,
        namespace=_text(meta, "NAMESPACE") or id_namespace,
        dns_domain=dns_domain,
        cluster_id=_text(meta, "CLUSTER_ID"),
        service_account=_text(meta, "SERVICE_ACCOUNT"),
        labels=tuple(sorted((str(k), str(v)) for k, v in labels.items())) if isinstance(labels, Mapping) else (),
        locality=Locality(where.get("region", ""), where.get("zone", ""), where.get("sub_zone", "")),
        network=_text(meta, "NETWORK"),
        mesh_id=_text(meta, "MESH_ID"),
        node_name=_text(meta, "NODE_NAME"),
        workload_name=_text(meta, "WORKLOAD_NAME"),
        istio_version=_text(meta, "ISTIO_VERSION"),
        user_agent_version=f"{version.get('major_number', 0)}.{version.get('minor_number', 0)}" if version else "",
        extensions=frozenset(e.get("name", "") for e in extensions) if extensions else None,
        interception_mode=_text(meta, "INTERCEPTION_MODE") or "REDIRECT",
        idle_timeout=_text(meta, "IDLE_TIMEOUT"),
        http10=_flag(meta, "HTTP10"),
        unprivileged=_flag(meta, "UNPRIVILEGED_POD"),
        enable_hbone=_flag(meta, "ENABLE_HBONE"),
        disable_hbone_send=_flag(meta, "DISABLE_HBONE_SEND"),
        dns_capture=_flag(meta, "DNS_CAPTURE"),
        server_files=_files(meta, "TLS_SERVER"),
        client_files=_files(meta, "TLS_CLIENT"),
        credential_socket=_text(meta, "credential") == "true",
        dns_proxy_addr=_text(meta, "DNS_PROXY_ADDR"),
        inbound_exact_balance=_flag(meta, "INBOUND_LISTENER_EXACT_BALANCE"),
        outbound_exact_balance=_flag(meta, "OUTBOUND_LISTENER_EXACT_BALANCE"),
        workload_sds=_flag(meta, "WORKLOAD_SDS"),
        certificates_over_ads=_text(meta, "WORKLOAD_SDS").lower() == "ads",
        pod_ports=_text(meta, "POD_PORTS"),
        network_view=_words(meta, "REQUESTED_NETWORK_VIEW"),
        status_port=_port(meta, "ENVOY_STATUS_PORT", 15021),
        prometheus_port=_port(meta, "ENVOY_PROMETHEUS_PORT", 15090),
        secure_ports=tuple(port for key in _SECURE_PORTS if (port := _port(meta, key, 0))),
        self_discovery=_flag(meta, "ENABLE_SELF_DISCOVERY"),
        register_group=_text(meta, "AUTO_REGISTER_GROUP"),
        workload_entry=_text(meta, "WORKLOAD_ENTRY"),
        probes_health=isinstance(config := meta.get("PROXY_CONFIG"), Mapping) and bool(config.get("readinessProbe")),
        proxy_config=json.dumps(_whole(config), sort_keys=True) if isinstance(config, Mapping) else "",
        metadata=tuple(sorted((str(k), v) for k, v in meta.items() if isinstance(v, str))),
    )
