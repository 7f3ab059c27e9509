"""Credentials that a gateway's patches name are served to it, under the rules for those of Gateways (SDS-004)."""

from typing import Any

from pypilot.compile.generators import GENERATORS
from pypilot.kinds.base import Object
from pypilot.wire import types
from pypilot.wire.node import Proxy
from pypilot.world.advance import advance
from pypilot.world.delta import Delta
from pypilot.world.reader import Reader
from tests.compile.envoy_filters.worlds import GATEWAY, SHOP, envoy_filter, patch, world
from tests.compile.secrets.certs import new_pair
from tests.world.objects import make

TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"


def secret(name: str, namespace: str) -> Object:
    pair = new_pair()
    return make("Secret", name, namespace, stringData={"tls.crt": pair.certificate, "tls.key": pair.key})


def chain(*names: str, **source: Any) -> dict[str, Any]:
    source = source or {"ads": {}, "resource_api_version": "V3"}
    common = {"tls_certificate_sds_secret_configs": [{"name": n, "sds_config": source} for n in names]}
    socket = {"name": "tls", "typed_config": {"@type": TLS, "common_tls_context": common}}
    return {"name": "tls", "filters": [{"name": "f"}], "transport_socket": socket}


def served(proxy: Proxy, value: dict[str, Any]) -> set[str]:
    now = world(envoy_filter(patch("FILTER_CHAIN", "ADD", value)))
    now = advance(now, Delta(upserts=(secret("cert", "shop"), secret("cert", "elsewhere"))))
    return {r.name for r in GENERATORS[types.SECRET](Reader(now), proxy)}


def test_secrets_of_the_gateways_own_namespace() -> None:
    names = ("kubernetes://cert", "kubernetes://elsewhere/cert", "kubernetes://missing", "default")
    assert served(GATEWAY, chain(*names)) == {"kubernetes://cert"}


def test_not_for_sidecars_and_not_what_others_serve() -> None:
    assert served(SHOP, chain("kubernetes://cert")) == set()
    assert served(GATEWAY, chain("kubernetes://cert", path="/somewhere")) == set()
