"""The registry of resource types: type URL -> the function that makes everything one proxy could ask for."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from pypilot.compile.endpoints import compile_endpoints
from pypilot.compile.envoy_filters.secrets import generate_secrets
from pypilot.compile.envoy_filters.sets import (
    generate_clusters,
    generate_extensions,
    generate_listeners,
    generate_routes,
)
from pypilot.compile.name_table import compile_name_table
from pypilot.compile.trust_bundle import compile_trust_bundle
from pypilot.wire import types
from pypilot.wire.node import Proxy
from pypilot.wire.resource import ResourceSet
from pypilot.world.reader import Reader

GENERATORS: Mapping[str, Callable[[Reader, Proxy], ResourceSet]] = MappingProxyType(
    {
        types.CLUSTER: generate_clusters,
        types.ENDPOINT: compile_endpoints,
        types.LISTENER: generate_listeners,
        types.ROUTE: generate_routes,
        types.SECRET: generate_secrets,
        types.EXTENSION_CONFIG: generate_extensions,
        types.NAME_TABLE: compile_name_table,
        types.PROXY_CONFIG: compile_trust_bundle,
    }
)
