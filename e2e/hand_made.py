"""Envoy configuration written by hand: what a sidecar and a gateway are, without a control plane.

Lets the harness be tested by itself, and shows in few lines what the compiler has to come to.
"""

from collections.abc import Mapping
from typing import Any

from pypilot.cli.demo.bootstrap import JsonObject, address
from pypilot.cli.demo.certificates import Certificate

TYPE = "type.googleapis.com/"
LOG_FIELDS = {
    "authority": "%REQ(:AUTHORITY)%",
    "path": "%REQ(:PATH)%",
    "response_code": "%RESPONSE_CODE%",
    "response_flags": "%RESPONSE_FLAGS%",
    "upstream_cluster": "%UPSTREAM_CLUSTER_RAW%",
    "route_name": "%ROUTE_NAME%",
    "downstream_local_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
}


def access_log() -> list[JsonObject]:
    """JSON lines on standard output."""
    config = {
        "@type": TYPE + "envoy.extensions.access_loggers.file.v3.FileAccessLog",
        "path": "/dev/stdout",
        "log_format": {"json_format": LOG_FIELDS},
    }
    return [{"name": "envoy.access_loggers.file", "typed_config": config}]


def http_filter(virtual_hosts: list[JsonObject]) -> JsonObject:
    """An HTTP connection manager with inline routes."""
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": TYPE + "envoy.extensions.filters.http.router.v3.Router"},
    }
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": TYPE + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "http",
            "route_config": {"name": "routes", "virtual_hosts": virtual_hosts, "ignore_port_in_host_matching": True},
            "http_filters": [router],
            "access_log": access_log(),
        },
    }


def tcp_filter(cluster: str) -> JsonObject:
    """A TCP proxy."""
    return {
        "name": "envoy.filters.network.tcp_proxy",
        "typed_config": {
            "@type": TYPE + "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
            "stat_prefix": cluster,
            "cluster": cluster,
            "access_log": access_log(),
        },
    }


def virtual_host(name: str, domain: str, route: Mapping[str, Any]) -> JsonObject:
    """A virtual host with one route for everything."""
    return {"name": name, "domains": [domain], "routes": [{"name": name, "match": {"prefix": "/"}, **route}]}


def sidecar(virtual_hosts: list[JsonObject], *, other_tcp: str) -> list[JsonObject]:
    """virtualOutbound on 15001, which hands port 80 to an HTTP listener and all else to the cluster `other_tcp`."""
    return [
        {
            "name": "virtualOutbound",
            "address": address(("0.0.0.0", 15001)),
            "use_original_dst": True,
            "filter_chains": [{"filters": [tcp_filter(other_tcp)]}],
        },
        {
            "name": "0.0.0.0_80",
            "address": address(("0.0.0.0", 80)),
            "bind_to_port": False,
            "filter_chains": [{"filters": [http_filter(virtual_hosts)]}],
        },
    ]


PASSTHROUGH: JsonObject = {
    "name": "PassthroughCluster",
    "type": "ORIGINAL_DST",
    "lb_policy": "CLUSTER_PROVIDED",
    "connect_timeout": "1s",
}
BLACK_HOLE: JsonObject = {"name": "BlackHoleCluster", "type": "STATIC", "connect_timeout": "1s"}


def https_server(where: tuple[str, int], certificate: Certificate, virtual_hosts: list[JsonObject]) -> JsonObject:
    """A listener that terminates TLS."""
    pair = {
        "certificate_chain": {"inline_string": certificate.certificate.decode()},
        "private_key": {"inline_string": certificate.key.decode()},
    }
    tls = {
        "@type": TYPE + "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
        "common_tls_context": {"tls_certificates": [pair], "alpn_protocols": ["h2", "http/1.1"]},
    }
    chain = {
        "filters": [http_filter(virtual_hosts)],
        "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": tls},
    }
    return {"name": "https", "address": address(where), "filter_chains": [chain]}
