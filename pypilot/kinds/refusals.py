"""What Istio's webhook refuses although it could be served (VAL-002, VAL-004, VAL-005): parts that several kinds share.

A running control plane serves such objects as Istio's does, and warns; the webhook denies them. Pure.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from pypilot.kinds.base import Duration, Finding
from pypilot.kinds.names import is_address, is_dns_name, is_label, is_wildcard_name, label_defects

REFUSED = "refused"
"""Code of these findings."""
_MILLISECOND = 1_000_000
_HEADER = re.compile(r"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_PSEUDO_HEADERS = frozenset({":method", ":scheme", ":authority", ":path", ":status"})
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_VARIABLES = re.compile(r"(?:[^%]|%%|%[^%]+%)*")


def refuse(path: str, because: str) -> Finding:
    """A warning of something that cannot be written through Istio's webhook."""
    return Finding(path, f"{because}: Istio's webhook refuses this", "warning", REFUSED)


def refused(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Errors as such warnings."""
    for finding in findings:
        yield refuse(finding.field, finding.message)


def time_defects(path: str, time: Duration | None) -> Iterator[Finding]:
    """Whole milliseconds, at least one; what is negative is an error elsewhere."""
    if time is not None and time.nanos >= 0 and (time.nanos < _MILLISECOND or time.nanos % _MILLISECOND):
        yield refuse(path, f"{time} is not a number of whole milliseconds, of at least one")


def host_defects(path: str, host: str, *, with_address: bool = False) -> Iterator[Finding]:
    """A DNS name that may begin with a wildcard."""
    if host and not is_wildcard_name(host) and not (with_address and is_address(host)):
        yield refuse(path, f"{host!r} is not a DNS name")


def port_defects(path: str, port: int) -> Iterator[Finding]:
    """0: not given."""
    if not 0 <= port < 65536:
        yield refuse(path, f"{port} is not a port")


def percent_defects(path: str, percent: float | None) -> Iterator[Finding]:
    """0, or not less than Envoy can tell from it."""
    if percent is not None and not (percent == 0 or 0.0001 <= percent <= 100):
        yield refuse(path, f"{percent} is not a percentage (0-100)")


def labels_defects(path: str, labels: Mapping[str, str]) -> Iterator[Finding]:
    """Labels as Kubernetes has them."""
    yield from refused(label_defects(path, labels))


def gateway_defects(path: str, names: Sequence[str]) -> Iterator[Finding]:
    """`NAMESPACE/NAME`, or a name."""
    for i, name in enumerate(names):
        namespace, slash, rest = name.partition("/")
        if not (is_label(namespace) and is_label(rest) if slash else is_dns_name(name)):
            yield refuse(f"{path}[{i}]", f"{name!r} is not NAMESPACE/NAME of a Gateway")


def header_name_defects(path: str, name: str) -> Iterator[Finding]:
    """A header that is looked at."""
    if name not in _PSEUDO_HEADERS and not name.startswith("@request.auth.claims") and not is_header(name):
        yield refuse(path, f"{name!r} is not the name of a header")


def is_header(name: str) -> bool:
    """True for the name of a header (RFC 9110 token)."""
    return _HEADER.fullmatch(name) is not None


def is_authority(name: str) -> bool:
    """True for the header that says the host."""
    return name.lower() in (":authority", "host")


def set_header_defects(path: str, values: Mapping[str, str], *, authority: bool) -> Iterator[Finding]:
    """Headers that are set or added; only those of requests may say the authority."""
    for name, value in values.items():
        yield from changed_header_defects(f"{path}.{name}", name, authority=authority)
        if _CONTROL.search(value) or not _VARIABLES.fullmatch(value):
            yield refuse(f"{path}.{name}", "the value has control characters, or a % that is not doubled")


def changed_header_defects(path: str, name: str, *, authority: bool = False) -> Iterator[Finding]:
    """A header that is set, added or removed."""
    if not name:
        yield refuse(path, "a header needs a name")
    elif (name.startswith(":") or name.lower() == "host") and not (authority and is_authority(name)):
        yield refuse(path, f"{name!r} cannot be changed")
