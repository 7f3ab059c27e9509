"""The order of listeners, which state-of-the-world clients see (LIS-001)."""

from tests.compile.listeners.decoding import listeners_of
from tests.golden import node
from tests.world.objects import pod, service

WORLD = (service("web"), service("db", protocol="tcp", port=3306), service("a", port=8080), pod("db-1", "10.1.0.1"))


def test_outbound_then_proxy_then_virtual_then_inbound_then_hbone() -> None:
    sidecar = node({"name": "db", "ip": "10.1.0.1", "metadata": {"ENABLE_HBONE": "true"}})
    names = list(listeners_of(sidecar, WORLD, "proxyHttpPort: 15080\n"))
    first, rest = names[:3], names[3:]
    assert sorted(first) == ["0.0.0.0_80", "0.0.0.0_8080", next(n for n in first if n.endswith("_3306"))]
    hbone = ["connect_terminate", "main_internal", "connect_originate"]
    assert rest == ["127.0.0.1_15080", "virtualOutbound", "virtualInbound", *hbone]
