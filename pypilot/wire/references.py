"""Which resources a resource refers to by name: what Envoy subscribes to when it gets it. Works on protobuf JSON."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pypilot.wire.decode import resource_to_dict
from pypilot.wire.resource import Resource, ResourceSet
from pypilot.wire.types import CLUSTER, ENDPOINT, EXTENSION_CONFIG, ROUTE, SECRET, WILDCARD


def references(type_url: str, resource: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(type URL, name) of everything over ADS that the resource (see `decode.resource_to_dict`) needs."""
    if type_url == CLUSTER and resource.get("type") == "EDS":
        name = resource.get("eds_cluster_config", {}).get("service_name") or resource.get("name", "")
        yield ENDPOINT, str(name)
    yield from _walk(resource)


def _walk(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for item in value:
            yield from _walk(item)
    if not isinstance(value, Mapping):
        return
    rds = value.get("rds")
    if isinstance(rds, Mapping) and rds.get("route_config_name"):
        yield ROUTE, rds["route_config_name"]
    sds = value.get("sds_config")
    if isinstance(sds, Mapping) and "ads" in sds and value.get("name"):
        yield SECRET, value["name"]
    if "config_discovery" in value and value.get("name"):
        yield EXTENSION_CONFIG, value["name"]
    for item in value.values():
        yield from _walk(item)


def held_by(
    offered: Mapping[str, ResourceSet], decode: Callable[[Resource], dict[str, Any]] = resource_to_dict
) -> dict[str, dict[str, dict[str, Any]]]:
    """What a proxy would hold of these sets, decoded, by type URL and name.

    That is everything of the wildcard types, and of the other types whatever something held refers to.
    """
    held: dict[str, dict[str, dict[str, Any]]] = {type_url: {} for type_url in offered}
    todo = [(type_url, resource) for type_url in WILDCARD if type_url in offered for resource in offered[type_url]]
    while todo:
        type_url, resource = todo.pop()
        if resource.name in held[type_url]:
            continue
        decoded = held[type_url][resource.name] = decode(resource)
        for wanted, name in references(type_url, decoded):
            found = offered[wanted].get(name) if wanted in offered else None
            if found is not None:
                todo.append((wanted, found))
    return {type_url: dict(sorted(by_name.items())) for type_url, by_name in held.items()}
