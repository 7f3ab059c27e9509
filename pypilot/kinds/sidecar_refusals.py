"""What Istio's webhook refuses in Sidecars although it could be served (VAL-006). Pure."""

from collections.abc import Iterator

from pypilot.kinds.base import Finding
from pypilot.kinds.destination_rule_refusals import pool_refusals
from pypilot.kinds.names import selector_defects
from pypilot.kinds.refusals import refuse, refused
from pypilot.kinds.sidecar import Sidecar


def refusals(sidecar: Sidecar) -> Iterator[Finding]:
    """All of them."""
    spec = sidecar.spec
    if spec.workload_selector is not None:
        yield from refused(selector_defects("spec.workloadSelector.labels", spec.workload_selector.labels))
    yield from pool_refusals("spec.inboundConnectionPool", spec.inbound_connection_pool)
    for i, ingress in enumerate(spec.ingress):
        yield from pool_refusals(f"spec.ingress[{i}].connectionPool", ingress.connection_pool)
    for i, egress in enumerate(spec.egress):
        for j, host in enumerate(egress.hosts):
            name = host.partition("/")[2]
            if name != "*" and "." not in name:
                yield refuse(f"spec.egress[{i}].hosts[{j}]", f"{name!r} is a short name")
