"""ClusterLoadAssignments: the endpoints of services, as seen from a proxy's place."""

from pypilot.compile.endpoints.compose import compile_endpoints

__all__ = ["compile_endpoints"]
