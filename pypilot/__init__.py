"""pypilot: a lightweight control plane for Envoy.

Data flows one way: sources -> world -> compile -> engine -> xds -> Envoy (docs/architecture.md).
"""

__version__ = "0.1.0"
