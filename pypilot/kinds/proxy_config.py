"""Istio ProxyConfig (networking.istio.io): settings of proxies that take effect at injection (PC-001, PC-022)."""

from collections.abc import Iterable
from typing import Annotated, ClassVar

import msgspec

from pypilot.kinds.base import Finding, Kind, LabelSelector, Object, Spec
from pypilot.kinds.names import selector_defects

Concurrency = Annotated[int, msgspec.Meta(ge=0, le=2147483647)]


class ProxyImage(Spec, frozen=True):
    """`spec.image`."""

    image_type: str = ""
    """Variant of the image: default, debug or distroless."""


class ProxyConfigSpec(Spec, frozen=True):
    """`spec`."""

    selector: LabelSelector | None = None
    """Pods of the namespace to which it applies; all of them if absent."""
    concurrency: Concurrency | None = None
    """Number of worker threads; 0 for one a core."""
    environment_variables: dict[str, str] = {}
    """Environment of the proxy; ISTIO_META_NAME becomes metadata of its node."""
    image: ProxyImage | None = None
    """Image of the proxy."""


class ProxyConfig(Object, frozen=True, kw_only=True):
    """A ProxyConfig."""

    KIND: ClassVar[str] = "ProxyConfig"

    spec: ProxyConfigSpec = ProxyConfigSpec()
    """Settings of the proxies of a namespace, of some of its pods, or, in the root namespace, of all."""

    @property
    def wanted(self) -> dict[str, str]:
        """Labels that a pod must have; none for all pods."""
        return self.spec.selector.match_labels if self.spec.selector is not None else {}


def validate(config: ProxyConfig) -> Iterable[Finding]:
    """Checks that the types do not make."""
    return selector_defects("spec.selector.matchLabels", config.wanted)


KIND = Kind(ProxyConfig, "networking.istio.io", ("v1beta1",), "proxyconfigs", validate=validate)
