"""Checks of names that several kinds share: DNS names, ports' names, labels, exportTo. Pure; knows no kind."""

import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_network

from pypilot.kinds.base import Finding

_LABEL = re.compile(r"[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?")
_WILDCARD_LABEL = re.compile(r"\*|(?:\*-?)?[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?")
_TAG = re.compile(r"(?:[a-zA-Z0-9](?:[-A-Za-z0-9_.]*[a-zA-Z0-9])?)?")
_MAX_LABEL = 63
_MAX_NAME = 255


def is_address(text: str) -> bool:
    """True for an IPv4 or IPv6 address without a zone."""
    try:
        ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def is_network(text: str) -> bool:
    """True for an address or a CIDR, without a zone."""
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return "%" not in text


def is_label(text: str) -> bool:
    """True for one label of a DNS name, also the form of ports' names."""
    return len(text) <= _MAX_LABEL and _LABEL.fullmatch(text) is not None


def is_dns_name(text: str) -> bool:
    """True for a DNS name without wildcard; a last label of digits only would be an address."""
    if not 0 < len(text) <= _MAX_NAME:
        return False
    labels = text.removesuffix(".").split(".")
    return all(map(is_label, labels)) and not labels[-1].isdigit()


def is_wildcard_name(text: str) -> bool:
    """True for a DNS name whose first label may be, or begin with, a wildcard."""
    if not 0 < len(text) <= _MAX_NAME:
        return False
    first, dot, rest = text.partition(".")
    return len(first) <= _MAX_LABEL and _WILDCARD_LABEL.fullmatch(first) is not None and (not dot or is_dns_name(rest))


def label_defects(at: str, labels: Mapping[str, str]) -> Iterator[Finding]:
    """Labels as Kubernetes has them: `prefix/name` and a short value."""
    for key, value in labels.items():
        prefix, slash, name = key.rpartition("/")
        if not name or len(name) > _MAX_LABEL or _TAG.fullmatch(name) is None or (slash and not is_dns_name(prefix)):
            yield Finding(f"{at}.{key}", f"{key!r} is not the name of a label")
        elif len(value) > _MAX_LABEL or _TAG.fullmatch(value) is None:
            yield Finding(f"{at}.{key}", f"{value!r} is not the value of a label")


def selector_defects(at: str, labels: Mapping[str, str]) -> Iterator[Finding]:
    """Labels that a selector asks for: no wildcards, no empty names."""
    for key, value in labels.items():
        if not key or "*" in key or "*" in value:
            yield Finding(f"{at}.{key}", f"{key}={value}: a selector needs names and knows no wildcards")


def export_defects(at: str, namespace: str, export_to: tuple[str, ...]) -> Iterator[Finding]:
    """`exportTo`: names, or one of `*` and `~` alone; nothing twice."""
    seen: set[str] = set()
    for i, entry in enumerate(export_to):
        name = namespace if entry == "." else entry
        if name in seen:
            yield Finding(f"{at}[{i}]", f"{entry!r} is listed twice")
        if entry in ("*", "~") and len(export_to) > 1:
            yield Finding(f"{at}[{i}]", f"{entry!r} leaves no room for others")
        elif entry not in ("*", "~", ".") and not is_label(entry):
            yield Finding(f"{at}[{i}]", f"{entry!r} is not a namespace")
        seen.add(name)
