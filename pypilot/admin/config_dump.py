"""An admin-style ConfigDump of what a proxy is served, as JSON. Secrets are covered by the decoder."""

from collections.abc import Callable, Mapping
from typing import Any

from pypilot.wire.references import held_by
from pypilot.wire.resource import ResourceSet
from pypilot.wire.types import CLUSTER, ENDPOINT, EXTENSION_CONFIG, LISTENER, PREFIX, ROUTE, SECRET

Json = dict[str, Any]


def _listener(name: str, version: str, body: Json) -> Json:
    return {"name": name, "active_state": {"version_info": version, "listener": body}}


def _secret(name: str, version: str, body: Json) -> Json:
    return {"name": name, "version_info": version, "secret": body}


def _entry(field: str) -> Callable[[str, str, Json], Json]:
    return lambda _, version, body: {"version_info": version, field: body}


_SECTIONS: tuple[tuple[str, str, str, Callable[[str, str, Json], Json]], ...] = (
    (CLUSTER, "ClustersConfigDump", "dynamic_active_clusters", _entry("cluster")),
    (ENDPOINT, "EndpointsConfigDump", "dynamic_endpoint_configs", _entry("endpoint_config")),
    (LISTENER, "ListenersConfigDump", "dynamic_listeners", _listener),
    (ROUTE, "RoutesConfigDump", "dynamic_route_configs", _entry("route_config")),
    (SECRET, "SecretsConfigDump", "dynamic_active_secrets", _secret),
    (EXTENSION_CONFIG, "EcdsConfigDump", "ecds_filters", _entry("ecds_filter")),
)


def config_dump(offered: Mapping[str, ResourceSet], with_endpoints: bool = False) -> Json:
    """The dump of a proxy that is offered these sets; endpoints only on request (CTL-003).

    Source: envoy.admin.v3.ConfigDump.
    """
    held = held_by(offered)
    configs = []
    for type_url, section, field, entry in _SECTIONS:
        if type_url == ENDPOINT and not with_endpoints:
            continue
        entries = []
        for name, body in held.get(type_url, {}).items():
            resource = offered[type_url].get(name)
            version = resource.version if resource is not None else ""
            entries.append(entry(name, version, {"@type": type_url, **body}))
        configs.append({"@type": f"{PREFIX}envoy.admin.v3.{section}", field: entries})
    return {"configs": configs}
