"""Checks of the annotations by which a pod changes what is injected (INJ-014…016): a wrong one denies the pod. Pure."""

import json
import re
from collections.abc import Callable, Mapping
from ipaddress import ip_network
from typing import Any, Final

from pypilot.injection import names
from pypilot.injection.errors import InjectionError

_QUANTITY = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?\d+)?")
_INTERFACE = re.compile(r"[^\s/,]{1,15}")
_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})


def boolean(text: str) -> bool:
    """The words that Go takes for true and false.

    Raises:
        ValueError: it is neither.
    """
    if text not in _TRUE | _FALSE:
        raise ValueError("want true or false")
    return text in _TRUE


def _port(text: str) -> int:
    word = text.strip()
    if not word.isascii() or not word.isdigit() or int(word) > 65535:
        raise ValueError(f"{word!r} is not a port")
    return int(word)


def _ports(text: str) -> None:
    for word in text.split(",") if text.strip() else ():
        _port(word)


def _ports_or_all(text: str) -> None:
    if text != "*":
        _ports(text)


def _ranges(text: str) -> None:
    for word in text.split(",") if text else ():
        if "/" not in word:
            raise ValueError(f"{word!r} is not a CIDR")
        ip_network(word, strict=False)


def _ranges_or_all(text: str) -> None:
    if text != "*":
        _ranges(text)


def _mode(text: str) -> None:
    if text not in ("REDIRECT", "TPROXY", "NONE"):
        raise ValueError("want REDIRECT, TPROXY or NONE")


def _count(text: str) -> None:
    if not text.isascii() or not text.isdigit() or int(text) >= 1 << 31:
        raise ValueError(f"{text!r} is not a count")


def _quantity(text: str) -> None:
    if not _QUANTITY.fullmatch(text):
        raise ValueError(f"{text!r} is not a quantity")


def _interfaces(text: str) -> None:
    for word in text.split(",") if text else ():
        if not _INTERFACE.fullmatch(word.strip()):
            raise ValueError(f"{word!r} is not the name of an interface")


def _map(text: str) -> None:
    found = json.loads(text)
    if not isinstance(found, dict) or not all(isinstance(v, dict) for v in found.values()):
        raise ValueError("want a JSON object of objects")


def _overrides(text: str) -> None:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ValueError("want a JSON object")
    for key in ("containers", "initContainers"):
        if not isinstance(found.get(key) or [], list):
            raise ValueError(f"{key}: want a list")


_side, _traffic, _ready = names.sidecar_annotation, names.traffic_annotation, names.readiness_annotation
CHECKS: Final[Mapping[str, Callable[[str], Any]]] = {
    names.MODE: _mode,
    names.STATUS_PORT: _port,
    **{_ready(n): _count for n in ("initialDelaySeconds", "periodSeconds", "failureThreshold")},
    _traffic("includeOutboundIPRanges"): _ranges_or_all,
    _traffic("excludeOutboundIPRanges"): _ranges,
    _traffic("includeInboundPorts"): _ports_or_all,
    **{_traffic(n): _ports for n in ("excludeInboundPorts", "excludeOutboundPorts")},
    _traffic("includeOutboundPorts"): _ports_or_all,
    **{_traffic(n): _interfaces for n in ("excludeInterfaces", "kubevirtInterfaces")},
    "istio.io/reroute-virtual-interfaces": _interfaces,
    names.MERGE_METRICS: boolean,
    **{_side(n): _quantity for n in ("proxyCPU", "proxyMemory", "proxyCPULimit", "proxyMemoryLimit")},
    **{_side(n): _map for n in ("userVolume", "userVolumeMount")},
    names.OVERRIDES: _overrides,
}


def check_annotations(annotations: Mapping[str, str]) -> None:
    """Check all of them.

    Raises:
        InjectionError: names each wrong one.
    """
    wrong = []
    for name, check in CHECKS.items():
        if name in annotations:
            try:
                check(annotations[name])
            except (ValueError, RecursionError) as error:
                wrong.append(f"metadata.annotations[{name}]: {error}")
    if wrong:
        raise InjectionError("; ".join(wrong))
