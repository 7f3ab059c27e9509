"""All filters of a set of policies, in order (FILT-001, FILT-006, AZ-002, AZ-041). Made once for each set."""

from typing import TypeAlias

from envoy.config.listener.v3 import listener_components_pb2 as components
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2 as hcm_pb2

from pypilot.compile.policies.authorization import http_authorization, http_custom, tcp_authorization, tcp_custom
from pypilot.compile.policies.jwt import jwt_authentication
from pypilot.compile.policies.selection import NO_POLICIES, PolicySet
from pypilot.world.reader import Reader

HttpFilters: TypeAlias = tuple[hcm_pb2.HttpFilter, ...]
NetworkFilters: TypeAlias = tuple[components.Filter, ...]


def _http(reader: Reader, policies: PolicySet) -> HttpFilters:
    authentication = jwt_authentication(reader, policies)
    tokens = (authentication,) if authentication is not None else ()
    return (*http_custom(reader, policies), *tokens, *http_authorization(reader, policies))


def _tcp(reader: Reader, policies: PolicySet) -> NetworkFilters:
    return (*tcp_custom(reader, policies), *tcp_authorization(reader, policies))


def http_policy_filters(reader: Reader, policies: PolicySet) -> HttpFilters:
    """For a connection manager."""
    return reader.call(_http, policies) if policies != NO_POLICIES else ()


def tcp_policy_filters(reader: Reader, policies: PolicySet) -> NetworkFilters:
    """For a chain of bytes."""
    return reader.call(_tcp, policies) if policies != NO_POLICIES else ()
