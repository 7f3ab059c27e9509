"""What one step of `advance` has to make anew: filled by its first pass, worked off by its second."""

from dataclasses import dataclass, field

from pypilot.world.model import ServiceKey


@dataclass(slots=True)
class Touched:
    """Derived buckets that the second pass rebuilds."""

    services: set[ServiceKey] = field(default_factory=set)
    endpoints: set[ServiceKey] = field(default_factory=set)
    rules: set[tuple[str, str]] = field(default_factory=set)
    """Kind and namespace of what is listed by namespace, oldest first."""
    gateway_names: set[str] = field(default_factory=set)
    filters: set[str] = field(default_factory=set)
    """Namespaces whose EnvoyFilters changed."""
    policies: set[tuple[str, str]] = field(default_factory=set)
    """(kind, namespace) of security.istio.io whose objects changed."""
    addresses: dict[str, set[tuple[str, str]]] = field(default_factory=dict)
    """Address -> pods that were stored in this step and had or have it."""
    entry_namespaces: set[str] = field(default_factory=set)
    """Namespaces whose ServiceEntries changed."""
    workload_namespaces: set[str] = field(default_factory=set)
    """Namespaces whose WorkloadEntries changed."""
    gateways: bool = False
    ingresses: bool = False
    mesh: bool = False
    all_services: bool = False
    all_endpoints: bool = False
    all_network_gateways: bool = False
