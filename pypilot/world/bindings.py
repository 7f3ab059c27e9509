"""Which VirtualServices are bound to which gateway. A part of `advance`."""

from pypilot.kinds.base import Object
from pypilot.kinds.virtual_service import MESH, VirtualService, gateway_name
from pypilot.world.converted import all_of
from pypilot.world.draft import Draft


def bound_gateways(service: Object | None) -> frozenset[str]:
    """VS-002: none means `mesh`; a short name is in the VirtualService's namespace; a delegate binds to none."""
    if not isinstance(service, VirtualService) or not service.spec.hosts:
        return frozenset()
    return frozenset(gateway_name(n, service.namespace) for n in service.spec.gateways or (MESH,))


def rebuild_bindings(draft: Draft, wanted: set[str]) -> None:
    """The VirtualServices of these gateways, oldest first."""
    bound: dict[str, list[VirtualService]] = {name: [] for name in wanted}
    for service in all_of(draft, "VirtualService") if wanted else ():
        for name in bound_gateways(service) & wanted:
            bound[name].append(service)
    for name, services in bound.items():
        draft.put("virtual_services", name, tuple(sorted(services, key=lambda s: s.age_key)))
