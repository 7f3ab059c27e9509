"""What the world says of injection: MeshConfig, ProxyConfigs, Nodes, the ConfigMap (INJ-005, PC-001). Pure."""

import re
from collections.abc import Iterable
from typing import Final, Literal, cast

import msgspec

from pypilot.injection.config import CONFIG_KEY, InjectionConfig
from pypilot.injection.target import Installation
from pypilot.kinds.base import Ref
from pypilot.kinds.config_map import ConfigMap
from pypilot.kinds.core import Node
from pypilot.kinds.proxy_config import ProxyConfig
from pypilot.world.reader import Reader
from pypilot.world.world import Constants, World

_NATIVE_SINCE: Final = (1, 33)
"""When Kubernetes declared native sidecars stable."""
_VERSION = re.compile(r"v?(\d+)\.(\d+)")


def config_map_ref(constants: Constants) -> Ref:
    """The ConfigMap that says how pods are injected."""
    suffix = "" if constants.revision in ("", "default") else f"-{constants.revision}"
    return Ref("ConfigMap", constants.root_namespace, f"pypilot-injection{suffix}")


def config_text(world: World) -> str:
    """Its text, empty without one."""
    ref = config_map_ref(world.constants)
    found = world.objects.get(ref.kind, {}).get((ref.namespace, ref.name))
    return found.data.get(CONFIG_KEY, "") if isinstance(found, ConfigMap) else ""


def supports_native_sidecars(nodes: Iterable[Node]) -> bool:
    """False if a kubelet is too old: its pods would never start. One that tells no version is not counted."""
    for node in nodes:
        found = _VERSION.match(node.status.node_info.kubelet_version)
        if found and (int(found[1]), int(found[2])) < _NATIVE_SINCE:
            return False
    return True


def installation_of(
    world: World, config: InjectionConfig, image: str, native_sidecars: Literal["auto", "true", "false"]
) -> Installation:
    """What all pods have in common.

    Args:
        world: With MeshConfig, ProxyConfigs and Nodes.
        config: Of the ConfigMap.
        image: Of the proxy, unless something says otherwise.
        native_sidecars: auto: as the Nodes allow.
    """
    constants, mesh = world.constants, Reader(world).mesh()
    nodes = cast("Iterable[Node]", world.objects.get(Node.KIND, {}).values())
    native = supports_native_sidecars(nodes) if native_sidecars == "auto" else native_sidecars == "true"
    configs = cast("Iterable[ProxyConfig]", world.objects.get(ProxyConfig.KIND, {}).values())
    default = msgspec.to_builtins(mesh.default_config, enc_hook=str)
    return Installation(
        image=image,
        root_namespace=constants.root_namespace,
        revision=constants.revision,
        cluster_domain=constants.domain,
        cluster_id=constants.cluster_id,
        native_sidecars=native,
        trust_domain=mesh.trust_domain,
        proxy_port=mesh.proxy_listen_port,
        inbound_port=mesh.proxy_inbound_listen_port,
        inbound_to_localhost=mesh.inbound_traffic_policy.mode == "LOCALHOST",
        merges_metrics=mesh.enable_prometheus_merge is not False,
        default_config={name: value for name, value in default.items() if value is not None},
        proxy_configs=tuple(configs),
        config=config,
    )
