"""Names and their addresses, looked up as Istio's agent does (NDS-005). Pure.

A client in a pod asks for `app.shop.svc.cluster.local` by many names: it writes a shorter one, and its resolver appends
search domains. What follows from the table by itself is not stored.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final, NamedTuple, Protocol

KUBERNETES: Final = "Kubernetes"


class NameInfo(Protocol):
    """An entry of the control plane's NameTable."""

    @property
    def ips(self) -> Iterable[str]: ...
    @property
    def registry(self) -> str: ...
    @property
    def shortname(self) -> str: ...
    @property
    def namespace(self) -> str: ...
    @property
    def alt_hosts(self) -> Iterable[str]: ...


class Addresses(NamedTuple):
    """Of one name."""

    v4: tuple[IPv4Address, ...] = ()
    v6: tuple[IPv6Address, ...] = ()


class Found(NamedTuple):
    """A name that is known."""

    addresses: Addresses
    canonical: str = ""
    """Whose addresses they are, if it is another's: the client's resolver appended a search domain."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the asking pod is."""

    namespace: str
    domain: str
    """Of its cluster's services: `svc.cluster.local`."""
    search: tuple[str, ...] = ()

    @staticmethod
    def of(namespace: str, dns_domain: str, search: Iterable[str] = ()) -> "Place":
        """`dns_domain` is a proxy's, which may begin with the namespace."""
        return Place(namespace, dns_domain.removeprefix(f"{namespace}."), tuple(search))


@dataclass(frozen=True, slots=True)
class Table:
    """All names. Keys are in lower case and end with a dot."""

    names: Mapping[str, Addresses] = field(default_factory=dict)
    search: str = ""
    """The first search domain, with a dot at the end; the one that resolvers try first."""

    def find(self, name: str) -> Found | None:
        """The name itself, or the wildcard that covers it most closely; None for a name that is not known."""
        if (found := self._known(name)) is not None:
            return found
        rest = name
        while rest and rest != ".":
            rest = rest.partition(".")[2]
            if (found := self._known(f"*.{rest}")) is not None:
                return found
        return None

    def _known(self, name: str) -> Found | None:
        if (addresses := self.names.get(name)) is not None:
            return Found(addresses)
        if not self.search or not name.endswith(f".{self.search}"):
            return None
        shorter = name.removesuffix(self.search)
        if shorter.endswith(self.search) or (addresses := self.names.get(shorter)) is None:
            return None
        return Found(addresses, shorter)


def _split(ips: Iterable[str]) -> Addresses:
    v4: list[IPv4Address] = []
    v6: list[IPv6Address] = []
    for text in ips:
        try:
            found = ip_address(text)
        except ValueError:
            continue
        v4.append(found) if isinstance(found, IPv4Address) else v6.append(found)
    return Addresses(tuple(v4), tuple(v6))


def _names(host: str, info: NameInfo, place: Place) -> Iterator[str]:
    """The forms of a name: the shortest is for the namespace's own services alone."""
    if info.registry != KUBERNETES:
        yield f"{host.rstrip('.')}."
        return
    if host.endswith("."):
        return
    yield f"{host}."
    if not place.domain or not host.endswith(place.domain) or not info.shortname:
        return
    short = f"{info.shortname}.{info.namespace}."
    yield short
    if info.namespace == place.namespace:
        yield f"{info.shortname}."
    yield f"{short}{place.domain.partition('.')[0]}."
    for name in info.alt_hosts:
        yield f"{name}."


def make_table(entries: Mapping[str, NameInfo], place: Place) -> Table:
    """The table of a pod. Of two names that are the same a whole one wins over a shortened one."""
    names: dict[str, Addresses] = {}
    short: dict[str, Addresses] = {}
    for host in sorted(entries):
        info = entries[host]
        addresses = _split(info.ips)
        if not addresses.v4 and not addresses.v6:
            continue
        for number, name in enumerate(_names(host, info, place)):
            (short if number else names)[name.lower()] = addresses
    search = f"{place.search[0]}." if place.search else ""
    return Table({**short, **names}, search)
