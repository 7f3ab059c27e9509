"""Route configurations: what sidecars and gateways do with a request (VS, RDS and GW rows)."""

from pypilot.compile.routes.compose import compile_routes

__all__ = ["compile_routes"]
