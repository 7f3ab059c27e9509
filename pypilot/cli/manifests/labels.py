"""What all manifests of pypilot carry, so that a user can tell them from Istio's and find them all."""

from collections.abc import Mapping
from types import MappingProxyType

LABELS: Mapping[str, str] = MappingProxyType(
    {"app.kubernetes.io/name": "pypilot", "app.kubernetes.io/part-of": "pypilot"}
)
