"""Istio's objects as plain dictionaries, in as few words as a test needs. Starts nothing, checks nothing."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import yaml

from e2e.outcomes.servers import Place
from pypilot.cli.demo.certificates import Certificate

Json: TypeAlias = dict[str, Any]

NAMESPACE = "outcomes"
GATEWAY = f"{NAMESPACE}/gateway"
SELECTOR = {"istio": "outcomes"}


def made(kind: str, name: str, spec: Json, group: str = "networking") -> Json:
    """An object of Istio's API."""
    metadata = {"name": name.replace("*", "any"), "namespace": NAMESPACE}
    return {"apiVersion": f"{group}.istio.io/v1", "kind": kind, "metadata": metadata, "spec": spec}


def endpoint(place: Place, port: str = "http", **more: Any) -> Json:
    """An endpoint of a ServiceEntry."""
    address, number = place.address
    return {"address": address, "ports": {port: number}, **more}


def service_entry(host: str, *endpoints: Place | Json, port: int = 80, protocol: str = "HTTP", **more: Any) -> Json:
    """A service of one port, which is named by its protocol, whose endpoints are known."""
    name = protocol.lower() or "any"
    listed = [e if isinstance(e, dict) else endpoint(e, name) for e in endpoints]
    ports = [{"number": port, "name": name, "protocol": protocol}]
    spec = {"hosts": [host], "ports": ports, "resolution": "STATIC", "endpoints": listed, **more}
    return made("ServiceEntry", host, spec)


def to(host: str, *, weight: int = 0, headers: Json | None = None, **destination: Any) -> Json:
    """A destination of a route."""
    found: Json = {"destination": {"host": host, **destination}}
    found |= {"weight": weight} if weight else {}
    return found | ({"headers": headers} if headers else {})


def virtual_service(host: str, *http: Json, gateways: Sequence[str] = (GATEWAY,), **more: Any) -> Json:
    """A VirtualService; without routes it leads to the host itself."""
    spec = {"hosts": [host], "gateways": list(gateways), **more}
    if not more.keys() & {"tcp", "tls"}:
        spec["http"] = list(http) or [{"route": [to(host)]}]
    return made("VirtualService", host, spec)


def destination_rule(
    host: str, policy: Json | None = None, subsets: Mapping[str, Mapping[str, str]] | None = None
) -> Json:
    """A DestinationRule: a traffic policy, and subsets with their labels."""
    spec: Json = {"host": host}
    spec |= {"trafficPolicy": policy} if policy else {}
    spec |= {"subsets": [{"name": name, "labels": dict(labels)} for name, labels in (subsets or {}).items()]}
    return made("DestinationRule", host, spec)


def server(port: int, protocol: str, *hosts: str, tls: Json | None = None) -> Json:
    """A server of a Gateway, on loopback."""
    found: Json = {
        "port": {"number": port, "name": f"{protocol.lower()}-{port}", "protocol": protocol},
        "bind": "127.0.0.1",
        "hosts": list(hosts) or ["*"],
    }
    return found | ({"tls": tls} if tls else {})


def gateway(*servers: Json, name: str = "extra") -> Json:
    """A Gateway that the stage's Envoy plays."""
    return made("Gateway", name, {"selector": SELECTOR, "servers": list(servers)})


def secret(name: str, **data: bytes) -> Json:
    """A Secret; keys with `_` in place of `.`."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "stringData": {key.replace("_", "."): value.decode() for key, value in data.items()},
    }


def tls_secret(name: str, certificate: Certificate, authority: bytes = b"") -> Json:
    """A Secret with a certificate, its key, and perhaps whom to trust."""
    return secret(
        name, tls_crt=certificate.certificate, tls_key=certificate.key, **{"ca_crt": authority} if authority else {}
    )


def mesh(**more: Any) -> Json:
    """MeshConfig."""
    config = {"accessLogFile": "/dev/stdout", "accessLogEncoding": "JSON", "enableAutoMtls": False, **more}
    metadata = {"name": "istio", "namespace": "istio-system"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"mesh": yaml.safe_dump(config)}}
