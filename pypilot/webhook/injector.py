"""The mutating webhook: an AdmissionReview of a Pod answered with the patch that injects it (INJ-001).

What is known of the mesh is asked for each pod. A ConfigMap that cannot be used leaves the last good one in force.
"""

import base64
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

import structlog

from pypilot.injection.config import InjectionConfig, parse_injection_config
from pypilot.injection.errors import InjectionError
from pypilot.injection.inject import inject
from pypilot.injection.installation import config_text, installation_of
from pypilot.injection.patch import json_patch
from pypilot.injection.target import Installation
from pypilot.settings import NativeSidecars
from pypilot.webhook.review import denied, request_of, response
from pypilot.world.world import World

PATH: Final = "/inject"
_SHORT: Final = {"cluster": "ISTIO_META_CLUSTER_ID", "net": "ISTIO_META_NETWORK"}
_LIST: Final = ":ENV:"


class NotReadyError(Exception):
    """The mesh is not known yet."""


class Injector:
    """Answers reviews."""

    def __init__(self, world: Callable[[], World | None], image: str, native_sidecars: NativeSidecars) -> None:
        """`world` is the present one, None before everything was read."""
        self._world = world
        self._image = image
        self._native = native_sidecars
        self._text = ""
        self._config = InjectionConfig()
        self._log = structlog.get_logger("pypilot.webhook")

    def installation(self) -> Installation:
        """What is known now.

        Raises:
            NotReadyError: nothing yet.
        """
        world = self._world()
        if world is None:
            raise NotReadyError
        text = config_text(world)
        if text != self._text:
            self._text = text
            try:
                self._config = parse_injection_config(text)
            except InjectionError as error:
                self._log.error("the ConfigMap cannot be used, the last one stays in force", reason=str(error))
        return installation_of(world, self._config, self._image, self._native)

    def answer(self, review: Any, path: str = "") -> dict[str, Any]:
        """The AdmissionReview to send back; `path` is what follows `/inject`.

        Raises:
            MalformedError: nothing can be said about this.
            NotReadyError: the mesh is not known yet.
        """
        request = request_of(review)
        pod = request.get("object")
        if request.get("operation") != "CREATE" or not isinstance(pod, Mapping) or pod.get("kind") != "Pod":
            return response(request)
        namespace = request.get("namespace")
        try:
            namespace = namespace if isinstance(namespace, str) else ""
            made = inject(pod, namespace, self.installation(), variables_of(path))
        except InjectionError as error:
            self._log.warning("a pod was refused", namespace=namespace, reason=str(error))
            return denied(request, str(error))
        if made is None:
            return response(request)
        patch = json.dumps(json_patch(dict(pod), made)).encode()
        return response(request, patchType="JSONPatch", patch=base64.b64encode(patch).decode())


def variables_of(path: str) -> dict[str, str]:
    """Variables of the proxy that follow `/inject`: `/cluster/NAME/net/NAME`, or `/:ENV:NAME=VALUE:ENV:NAME=VALUE`.

    A slash in a value is written `--slash--`.
    """
    rest = path.strip("/")
    pairs: list[tuple[str, str]] = []
    if rest.startswith(_LIST):
        for word in rest.split(_LIST)[1:]:
            name, separator, value = word.partition("=")
            pairs += [(name, value)] if separator else []
    else:
        words = rest.split("/")
        pairs += [(n, v.replace("--slash--", "/")) for n, v in zip(words[::2], words[1::2], strict=False)]
    return {_SHORT.get(name, name.upper()): value for name, value in pairs if name}
