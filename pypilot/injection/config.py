"""What the ConfigMap `pypilot-injection` says: who is injected, values of the built-in templates, overlays over them.

Istio keeps Go templates in its ConfigMap; here the templates are built in, and an overlay is plain YAML that is merged
over what they give. Pure.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from pypilot.injection.errors import InjectionError
from pypilot.kinds.base import Spec
from pypilot.kinds.mesh_config import NamespaceSelector
from pypilot.kinds.parse import convert
from pypilot.kinds.yaml_data import YamlError, load_document

CONFIG_KEY: Final = "injection"
"""Key of the ConfigMap."""

DEFAULT_RESOURCES: Final[Mapping[str, Any]] = {
    "requests": {"cpu": "100m", "memory": "128Mi"},
    "limits": {"cpu": "2000m", "memory": "1024Mi"},
}


class ProxyValues(Spec, frozen=True, forbid_unknown_fields=True):
    """`values.proxy`: defaults of what annotations say for one pod, by the names of Istio's chart."""

    image: str = ""
    """Of proxy and init container; `--proxy-image` unless given."""
    resources: dict[str, Any] = msgspec.field(default_factory=lambda: dict(DEFAULT_RESOURCES))
    log_level: str = "warning"
    component_log_level: str = "misc:error"
    agent_log_level: str = "default:info"
    include_ip_ranges: str = msgspec.field(name="includeIPRanges", default="*")
    exclude_ip_ranges: str = msgspec.field(name="excludeIPRanges", default="")
    include_inbound_ports: str = "*"
    exclude_inbound_ports: str = ""
    include_outbound_ports: str = ""
    exclude_outbound_ports: str = ""
    readiness_initial_delay_seconds: int = 0
    readiness_period_seconds: int = 15
    readiness_failure_threshold: int = 4
    startup_failure_threshold: int = 600
    """Of the startup probe, once a second; 0: there is none."""
    hold_application_until_proxy_starts: bool = False
    privileged: bool = False
    cap_net_bind_service: bool = False
    seccomp_profile: dict[str, Any] = {}
    lifecycle: dict[str, Any] = {}


class Values(Spec, frozen=True, forbid_unknown_fields=True):
    """`values`."""

    proxy: ProxyValues = ProxyValues()
    image_pull_policy: str = ""
    image_pull_secrets: tuple[str, ...] = ()
    mesh_id: str = msgspec.field(name="meshID", default="")
    network: str = ""
    rewrite_app_http_probe: bool = msgspec.field(name="rewriteAppHTTPProbe", default=True)


class InjectionConfig(Spec, frozen=True, forbid_unknown_fields=True):
    """Key `injection` of the ConfigMap."""

    policy: Literal["enabled", "disabled"] = "enabled"
    """Pods that neither say nor are selected (INJ-004)."""
    never_inject_selector: tuple[NamespaceSelector, ...] = ()
    always_inject_selector: tuple[NamespaceSelector, ...] = ()
    injected_annotations: dict[str, str] = {}
    default_templates: tuple[str, ...] = ("sidecar",)
    aliases: dict[str, tuple[str, ...]] = {}
    templates: dict[str, dict[str, Any]] = {}
    """Name -> a part of a Pod; `sidecar` and `gateway` are merged over the built-in templates of these names."""
    values: Values = Values()


def parse_injection_config(text: str) -> InjectionConfig:
    """The configuration from its YAML.

    Raises:
        InjectionError: it cannot be used; says where.
    """
    try:
        data, _ = load_document(text)
        return convert(data or {}, InjectionConfig)
    except YamlError as error:
        raise InjectionError(f"{CONFIG_KEY}: not valid YAML: {error} (line {error.line + 1})") from None
    except msgspec.ValidationError as error:
        raise InjectionError(f"{CONFIG_KEY}: {error}") from None
