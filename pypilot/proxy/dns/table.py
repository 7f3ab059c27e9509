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
    short: bool = False
    """Shorter forms of the name mean it, too; they are not stored."""


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

    @property
    def first_search(self) -> str:
        """The first search domain, with a dot at the end."""
        return f"{self.search[0]}." if self.search else ""

    def longer(self, name: str) -> Iterator[str]:
        """What a name may be short for: `app.` in this namespace, `app.shop.`, `app.shop.svc.`."""
        if not self.domain:
            return
        yield f"{name}{self.domain}."
        yield f"{name}{self.namespace}.{self.domain}."
        first = f"{self.domain.partition('.')[0]}."
        if name.endswith(f".{first}"):
            yield f"{name.removesuffix(first)}{self.domain}."


@dataclass(frozen=True, slots=True)
class Table:
    """All names. Keys are in lower case and end with a dot."""

    names: Mapping[str, Addresses] = field(default_factory=dict)
    place: Place = field(default_factory=lambda: Place("", ""))

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
        if (addresses := self._addresses(name)) is not None:
            return Found(addresses)
        search = self.place.first_search  # the one that resolvers try first
        if not search or not name.endswith(f".{search}"):
            return None
        shorter = name.removesuffix(search)
        if shorter.endswith(search) or (addresses := self._addresses(shorter)) is None:
            return None
        return Found(addresses, shorter)

    def _addresses(self, name: str) -> Addresses | None:
        """Of a name as it is; whole names win over shorter forms of others."""
        if (addresses := self.names.get(name)) is not None:
            return addresses
        for longer in self.place.longer(name):
            if (addresses := self.names.get(longer)) is not None and addresses.short:
                return addresses
        return None


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


def _is_short_for_itself(host: str, info: NameInfo, place: Place) -> bool:
    return info.registry == KUBERNETES and bool(place.domain) and host == _whole(info, place)


def _whole(info: NameInfo, place: Place) -> str:
    return f"{info.shortname}.{info.namespace}.{place.domain}"


def make_table(entries: Mapping[str, NameInfo], place: Place) -> Table:
    """The table of a pod. Services of other domains (clusters) have no shorter forms: they would be ambiguous."""
    names: dict[str, Addresses] = {}
    more: dict[str, Addresses] = {}
    for host in sorted(entries):
        info = entries[host]
        addresses = _split(info.ips)
        if not addresses.v4 and not addresses.v6:
            continue
        short = _is_short_for_itself(host, info, place)
        names[f"{host.rstrip('.')}.".lower()] = addresses._replace(short=short)
        for name in info.alt_hosts if short else ():
            more[f"{name.rstrip('.')}.".lower()] = addresses
    return Table({**more, **names}, place)
