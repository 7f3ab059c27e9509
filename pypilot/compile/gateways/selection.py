"""Which Gateways a proxy serves (GW-001…003). Must not look into their servers."""

from pypilot.compile.targets import workload_labels
from pypilot.kinds.base import Ref
from pypilot.wire.node import Labels, Proxy
from pypilot.world.reader import Reader


def _select(reader: Reader, labels: Labels) -> tuple[Ref, ...]:
    carried = set(labels)
    return tuple(gateway.ref for gateway in reader.gateways() if carried.issuperset(gateway.spec.selector.items()))


def gateways_for(reader: Reader, proxy: Proxy) -> tuple[Ref, ...]:
    """Gateways of all namespaces whose selector the proxy's labels satisfy, oldest first. An empty one selects all."""
    return reader.call(_select, workload_labels(reader, proxy))
