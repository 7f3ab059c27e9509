"""What of a pod's traffic is captured, in the words of Istio's annotations and flags (IPT, INJ-015). Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final, Literal

Network = IPv4Network | IPv6Network
Mode = Literal["REDIRECT", "TPROXY"]
_MOST_GROUPS: Final = 64
"""They stand in one rule, whose length the kernel limits."""
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m)")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0}


class CaptureError(ValueError):
    """A value that cannot be used; names it."""


@dataclass(frozen=True, slots=True)
class Everything:
    """`*`."""


ALL = Everything()


@dataclass(frozen=True, slots=True)
class Dns:
    """DNS goes to the agent (IPT-006)."""

    servers: tuple[str, ...] | Everything = ALL
    """Only what is sent to these addresses."""
    agent_port: int = 15053


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """Everything that can be said about it; the defaults are Istio's."""

    proxy_port: int = 15001
    """Where Envoy takes outbound connections."""
    inbound_port: int = 15006
    tunnel_port: int = 15008
    """HBONE, which is never redirected (IPT-002)."""
    uids: tuple[str, ...] = ("1337",)
    gids: tuple[str, ...] = ("1337",)
    """Whose traffic is Envoy's own."""
    mode: Mode = "REDIRECT"
    inbound_ports: tuple[int, ...] | Everything = ALL
    """Those that are captured; empty: none."""
    exclude_inbound_ports: tuple[int, ...] = ()
    """Only counts where all are captured."""
    outbound_ranges: tuple[Network, ...] | Everything = ALL
    """IPT-005; empty: none."""
    exclude_outbound_ranges: tuple[Network, ...] = ()
    outbound_ports: tuple[int, ...] = ()
    """Captured even outside of `outbound_ranges` (IPT-005)."""
    exclude_outbound_ports: tuple[int, ...] = ()
    exclude_interfaces: tuple[str, ...] = ()
    virtual_interfaces: tuple[str, ...] = ()
    """Of virtual machines in the pod: what comes from them counts as outbound."""
    dns: Dns | None = None
    drop_invalid: bool = False
    """Packets out of window are dropped, not reset (IPT-008)."""
    include_groups: tuple[str, ...] | Everything = ALL
    """Only what processes of these groups send is outbound (IPT-008)."""
    exclude_groups: tuple[str, ...] = ()
    loopback: IPv4Network = IPv4Network("127.0.0.1/32")

    def __post_init__(self) -> None:
        """Refuse what one rule cannot hold.

        Raises:
            CaptureError: too many groups are included.
        """
        if not isinstance(self.include_groups, Everything) and len(self.include_groups) > _MOST_GROUPS:
            raise CaptureError(f"--owner-groups-include: {len(self.include_groups)} groups, {_MOST_GROUPS} at most")

    @property
    def takes_loopback(self) -> bool:
        """A captured range holds loopback addresses."""
        ranges = self.outbound_ranges
        return not isinstance(ranges, Everything) and any(r.is_loopback for r in ranges)


def words(text: str) -> tuple[str, ...]:
    """A comma list without its empty items."""
    return tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def read_ports(text: str, what: str) -> tuple[int, ...]:
    """Port numbers of a comma list.

    Raises:
        CaptureError: one is none.
    """
    found = []
    for word in words(text):
        if not word.isascii() or not word.isdigit() or not 0 < int(word) < 65536:
            raise CaptureError(f"{what}: {word!r} is not a port")
        found.append(int(word))
    return tuple(found)


def read_ports_or_all(text: str, what: str) -> tuple[int, ...] | Everything:
    """As `read_ports`, or `*`."""
    return ALL if text.strip() == "*" else read_ports(text, what)


def read_ranges(text: str, what: str) -> tuple[Network, ...]:
    """CIDRs of a comma list; an address alone is a range of one.

    Raises:
        CaptureError: one is none.
    """
    found: list[Network] = []
    for word in words(text):
        try:
            found.append(ip_network(word, strict=False))
        except ValueError:
            raise CaptureError(f"{what}: {word!r} is not a CIDR") from None
    return tuple(found)


def read_ranges_or_all(text: str, what: str) -> tuple[Network, ...] | Everything:
    """As `read_ranges`, or `*`."""
    return ALL if text.strip() == "*" else read_ranges(text, what)


def read_words_or_all(text: str) -> tuple[str, ...] | Everything:
    """Words of a comma list, or `*`."""
    return ALL if text.strip() == "*" else words(text)


def read_loopback(text: str, what: str) -> IPv4Network:
    """A range of 127.0.0.0/8.

    Raises:
        CaptureError: it is none.
    """
    try:
        found = IPv4Network(text, strict=False)
    except ValueError:
        found = IPv4Network("0.0.0.0/0")
    if not found.is_loopback:
        raise CaptureError(f"{what}: {text!r} is not a range of 127.0.0.0/8")
    return found


def seconds_of(text: str, what: str) -> float:
    """A duration such as `5s`.

    Raises:
        CaptureError: it is none.
    """
    found = _DURATION.fullmatch(text)
    if found is None:
        raise CaptureError(f"{what}: {text!r} is not a duration")
    return float(found[1]) * _UNITS[found[2]]


def name_servers(resolv_conf: str) -> tuple[str, ...]:
    """The addresses of a resolv.conf; zones of IPv6 addresses are cut off."""
    found = []
    for line in resolv_conf.splitlines():
        match line.split():
            case ["nameserver", text, *_]:
                try:
                    found.append(str(ip_address(text.partition("%")[0])))
                except ValueError:
                    continue
    return tuple(dict.fromkeys(found))


def of_family(ranges: Iterable[Network], version: int) -> tuple[Network, ...]:
    """Only IPv4, or only IPv6."""
    return tuple(r for r in ranges if r.version == version)
