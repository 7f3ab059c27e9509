"""What makes a Sidecar wrong beyond its types (VAL-006), and its registry entry."""

import re
from collections.abc import Iterable
from ipaddress import ip_address

from pypilot.kinds.base import Finding, Kind
from pypilot.kinds.gateway import HTTP_PROTOCOLS, ServerTLSSettings
from pypilot.kinds.gateway import PROTOCOLS as GATEWAY_PROTOCOLS
from pypilot.kinds.sidecar import (
    UNIX,
    IstioEgressListener,
    IstioIngressListener,
    OutboundTrafficPolicy,
    Sidecar,
    SidecarPort,
)
from pypilot.kinds.sidecar_refusals import refusals

PROTOCOLS = GATEWAY_PROTOCOLS | {"UDP"}
_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?")
_PORT_NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_LOCAL_ENDPOINTS = frozenset({"", "127.0.0.1", "0.0.0.0", "::1", "::"})  # noqa: S104 - words of the API
_MAX_PATH = 107
"""Bytes in the path of a Unix socket."""


def is_unix_path(path: str) -> bool:
    """True for a path, or an abstract name, that Envoy can bind or connect to."""
    return bool(path) and path[0] in "/@" and len(path.encode()) <= _MAX_PATH and "\0" not in path


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def split_endpoint(text: str) -> tuple[str, int] | None:
    """Host and port of `127.0.0.1:80` or `[::1]:80`; None if it has another form."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        return None
    if not colon or not (port.isascii() and port.isdecimal()) or len(port) > 5 or not 0 < int(port) <= 65535:
        return None
    return host, int(port)


def _host_problem(text: str) -> str:
    """Why a text is no `NAMESPACE/NAME` of an egress listener; empty if it is one."""
    namespace, slash, name = text.partition("/")
    if not slash or "/" in name:
        return "want NAMESPACE/NAME"
    bare = namespace.removeprefix("~")
    if bare not in ("", ".", "*") and _LABEL.fullmatch(bare) is None:
        return f"invalid namespace {namespace!r}"
    if not namespace:
        return "a namespace is needed"
    labels = (name.removeprefix("*.") if name.startswith("*.") else name).removesuffix(".").split(".")
    if name != "*" and not all(_LABEL.fullmatch(label) for label in labels):
        return f"invalid name {name!r}: a wildcard may only be the first label"
    return ""


def _validate_port(port: SidecarPort, path: str) -> Iterable[Finding]:
    if port.spoken not in PROTOCOLS:
        yield Finding(f"{path}.protocol", f"unknown protocol {port.protocol!r}")
    if port.target_port:
        yield Finding(f"{path}.targetPort", "has no effect in a Sidecar")
    if port.name and _PORT_NAME.fullmatch(port.name) is None:
        yield Finding(f"{path}.name", f"invalid port name {port.name!r}")


def _validate_bind(listener: IstioEgressListener, path: str) -> Iterable[Finding]:
    """A Unix socket goes with port 0, an address with any other (SC-008)."""
    bind, port = listener.bind, listener.port
    if port is not None and port.number == 0:
        if not bind.startswith(UNIX) or not is_unix_path(bind.removeprefix(UNIX)):
            yield Finding(f"{path}.bind", f"port 0 needs a Unix socket unix:///path, got {bind!r}")
        if listener.capture_mode == "IPTABLES":
            yield Finding(f"{path}.captureMode", "nothing captured arrives at a Unix socket: DEFAULT or NONE")
    elif bind and not _is_address(bind):
        yield Finding(f"{path}.bind", f"{bind!r} is not an IP address")


def _redundant_hosts(listener: IstioEgressListener, path: str) -> Iterable[Finding]:
    known: set[str] = set()
    for j, host in enumerate(listener.hosts):
        namespace = host.partition("/")[0]
        if host in known or (f"{namespace}/*" in known and not namespace.startswith("~")):
            message = f"{host!r} is selected by an earlier host"
            yield Finding(f"{path}.hosts[{j}]", message, severity="warning", code="redundant-host")
        elif "*/*" in known and not namespace.startswith("~"):
            message = "*/* selects everything, other hosts add nothing"
            yield Finding(f"{path}.hosts[{j}]", message, severity="warning", code="redundant-host")
        known.add(host)


def _validate_egress(sidecar: Sidecar) -> Iterable[Finding]:
    places: set[int | str] = set()
    last = len(sidecar.spec.egress) - 1
    for i, listener in enumerate(sidecar.spec.egress):
        path = f"spec.egress[{i}]"
        if listener.port is None and i != last:
            yield Finding(f"{path}.port", "only the last egress listener may be without a port (SC-007)")
        if listener.port is not None:
            yield from _validate_port(listener.port, f"{path}.port")
            place = listener.port.number or listener.bind
            if place in places:
                yield Finding(f"{path}.port", f"another egress listener is already at {place!r}")
            places.add(place)
        yield from _validate_bind(listener, path)
        if not listener.hosts:
            yield Finding(f"{path}.hosts", "at least one host is needed")
        yield from _redundant_hosts(listener, path)
        for j, host in enumerate(listener.hosts):
            if problem := _host_problem(host):
                # What is to be left out would be seen if only this one were rejected.
                at = f"{path}.hosts" if host.startswith("~") else f"{path}.hosts[{j}]"
                yield Finding(at, f"invalid host {host!r}: {problem}")


def _validate_tls(tls: ServerTLSSettings, protocol: str, path: str) -> Iterable[Finding]:
    """What an ingress listener's TLS may say (SC-015)."""
    if tls.mode not in ("SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL", "PASSTHROUGH"):
        yield Finding(f"{path}.mode", f"{tls.mode} is not allowed in a Sidecar (SC-015)")
    for name, value in (
        ("subjectAltNames", tls.subject_alt_names),
        ("httpsRedirect", tls.https_redirect),
        ("credentialName", tls.credential_name),
        ("credentialNames", tls.credential_names),
        ("tlsCertificates", tls.tls_certificates),
    ):
        if value:
            yield Finding(f"{path}.{name}", "is not supported in a Sidecar (SC-015)")
    if protocol not in ("HTTPS", "TLS"):
        yield Finding(path, f"only ports with protocol HTTPS or TLS have TLS settings, this one has {protocol}")
    if tls.mode in ("SIMPLE", "MUTUAL", "OPTIONAL_MUTUAL") and not (tls.server_certificate and tls.private_key):
        yield Finding(f"{path}.serverCertificate", f"mode {tls.mode} needs serverCertificate and privateKey")
    if tls.mode in ("MUTUAL", "OPTIONAL_MUTUAL") and not tls.ca_certificates:
        yield Finding(f"{path}.caCertificates", f"mode {tls.mode} needs a CA to verify clients")


def _validate_endpoint(text: str, path: str) -> Iterable[Finding]:
    """The forms of SC-014."""
    if text.startswith(UNIX):
        if not is_unix_path(text.removeprefix(UNIX)):
            yield Finding(path, f"{text!r} is not unix:///path (SC-014)")
        return
    parts = split_endpoint(text)
    if parts is None or parts[0] not in _LOCAL_ENDPOINTS:
        wanted = "127.0.0.1:PORT, 0.0.0.0:PORT, [::1]:PORT, [::]:PORT or unix:///path"
        yield Finding(path, f"invalid endpoint {text!r}, want {wanted} (SC-014)")


def _validate_ingress(listener: IstioIngressListener, path: str) -> Iterable[Finding]:
    yield from _validate_port(listener.port, f"{path}.port")
    if listener.port.number == 0:
        yield Finding(f"{path}.port.number", "must be between 1 and 65535")
    if listener.bind and not _is_address(listener.bind):
        yield Finding(f"{path}.bind", f"{listener.bind!r} is not an IP address")
    if listener.default_endpoint:
        yield from _validate_endpoint(listener.default_endpoint, f"{path}.defaultEndpoint")
    if listener.tls is not None:
        yield from _validate_tls(listener.tls, listener.port.spoken, f"{path}.tls")
    pool = listener.connection_pool
    if pool is not None and pool.http is not None and listener.port.spoken not in HTTP_PROTOCOLS:
        message = f"only the tcp settings apply to a port with protocol {listener.port.protocol}"
        yield Finding(f"{path}.connectionPool.http", message, severity="warning", code="no-effect")


def _validate_policy(policy: OutboundTrafficPolicy, path: str) -> Iterable[Finding]:
    if policy.mode == "ALLOW_ANY_DYNAMIC_DNS":
        yield Finding(f"{path}.mode", "ALLOW_ANY_DYNAMIC_DNS is a mode of the mesh alone")
        return
    proxy = policy.egress_proxy
    if proxy is None:
        return
    if policy.mode != "ALLOW_ANY":
        yield Finding(f"{path}.egressProxy", "only mode ALLOW_ANY has an egress proxy (SC-012)")
    if not proxy.host or not all(_LABEL.fullmatch(label) for label in proxy.host.split(".")):
        yield Finding(f"{path}.egressProxy.host", f"invalid host {proxy.host!r}")
    if not proxy.port.number:
        yield Finding(f"{path}.egressProxy.port", "a port is needed (SC-012)")


def validate(sidecar: Sidecar) -> Iterable[Finding]:
    """Checks of VAL-006."""
    spec = sidecar.spec
    if not (spec.egress or spec.ingress or spec.outbound_traffic_policy or spec.inbound_connection_pool):
        yield Finding("spec", "an empty Sidecar says nothing: give ingress, egress or a policy")
    if spec.workload_selector is not None and not spec.workload_selector.labels:
        message = "a selector without labels selects all workloads of the namespace"
        yield Finding("spec.workloadSelector", message, severity="warning", code="selects-all")
    ports: set[int] = set()
    for i, listener in enumerate(spec.ingress):
        if listener.port.number in ports:
            yield Finding(f"spec.ingress[{i}].port.number", f"port {listener.port.number} is listed twice")
        ports.add(listener.port.number)
        yield from _validate_ingress(listener, f"spec.ingress[{i}]")
    yield from _validate_egress(sidecar)
    if spec.outbound_traffic_policy is not None:
        yield from _validate_policy(spec.outbound_traffic_policy, "spec.outboundTrafficPolicy")


KIND = Kind(
    Sidecar,
    "networking.istio.io",
    ("v1", "v1beta1", "v1alpha3"),
    "sidecars",
    # Not "spec.egress[]": without one of its listeners a Sidecar would let its proxies see more than it says.
    units=("spec.egress[].hosts[]", "spec.ingress[]"),
    validate=validate,
    refusals=refusals,
)
