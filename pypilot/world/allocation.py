"""Virtual addresses for hosts of ServiceEntries that have none (SE-016, SE-018). Pure: decides, writes nothing.

`allocate` is for whoever keeps them in the entries' status: in order, and what is given stays given. `placed` is for a
process without an API server: where a host comes to lie follows from its name, so nothing moves when others come or go.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from types import MappingProxyType
from typing import TypeAlias

from pypilot.kinds.base import Ref
from pypilot.kinds.names import is_address
from pypilot.kinds.service_entry import ServiceEntry, ServiceEntryAddress

IPV4 = IPv4Network("240.240.0.0/16")
IPV6 = IPv6Network("2001:2::/48")
_PLACES = IPV4.num_addresses - 2
"""Offsets 1 to this: neither the network's own address nor the last one."""
_Network: TypeAlias = IPv4Network | IPv6Network
_Address: TypeAlias = IPv4Address | IPv6Address
_Given: TypeAlias = tuple[ServiceEntryAddress, ...]


def allocated_hosts(entry: ServiceEntry) -> tuple[str, ...]:
    """The hosts of an entry that get addresses: names, and wildcards only with DYNAMIC_DNS."""
    if not entry.allocates:
        return ()
    dynamic = entry.spec.resolution == "DYNAMIC_DNS"
    return tuple(h for h in dict.fromkeys(entry.spec.hosts) if dynamic or not h.startswith("*"))


def _stated(entry: ServiceEntry, host: str) -> list[_Address]:
    """What the status says of a host."""
    return [ip_address(a.value) for a in entry.status.addresses if a.host == host and is_address(a.value)]


def _by_users(entries: Iterable[ServiceEntry]) -> set[_Address]:
    """Addresses that users wrote down themselves."""
    return {ip_address(a) for entry in entries for a in entry.spec.addresses if is_address(a)}


@dataclass(frozen=True, slots=True)
class Allocation:
    """What is to change, and where to go on."""

    changes: Mapping[Ref, _Given]
    """The status that an entry is to have, where it has another."""
    last: tuple[int, int] = (0, 0)
    """Offsets of the last IPv4 and IPv6 address handed out: what was freed is not given to others at once."""


class _Counter:
    """Hands out addresses of one network in order, from where it stood last."""

    def __init__(self, network: _Network, last: int, used: set[_Address]) -> None:
        self.network, self.last, self.used = network, last, used

    def next(self) -> _Address | None:
        """A free address; None if there is none."""
        places = min(self.network.num_addresses - 2, _PLACES)
        for _ in range(places):
            self.last = self.last % places + 1
            address = self.network[self.last]
            if address not in self.used:
                self.used.add(address)
                return address
        return None


def allocate(entries: Iterable[ServiceEntry], last: tuple[int, int] = (0, 0)) -> Allocation:
    """The statuses to write. Of two entries with one address the older keeps it; a user's own always wins."""
    ordered = sorted(entries, key=lambda e: e.age_key)
    used = _by_users(ordered)
    kept: dict[tuple[Ref, str], list[_Address]] = {}
    for entry in ordered:
        for host in allocated_hosts(entry):
            stated = _stated(entry, host)
            if stated and used.isdisjoint(stated):
                kept[entry.ref, host] = stated
                used.update(stated)
    counters = (_Counter(IPV4, last[0], used), _Counter(IPV6, last[1], used))
    changes: dict[Ref, _Given] = {}
    for entry in ordered:
        wanted: list[ServiceEntryAddress] = []
        for host in allocated_hosts(entry):
            addresses = kept.get((entry.ref, host)) or [a for a in (c.next() for c in counters) if a is not None]
            wanted.extend(ServiceEntryAddress(value=str(a), host=host) for a in addresses)
        if _differs(entry.status.addresses, wanted):
            changes[entry.ref] = tuple(wanted)
    return Allocation(MappingProxyType(changes), (counters[0].last, counters[1].last))


def _differs(now: _Given, wanted: list[ServiceEntryAddress]) -> bool:
    """Order is of no interest."""
    return sorted((a.host, a.value) for a in now) != sorted((a.host, a.value) for a in wanted)


def placed(entries: Iterable[ServiceEntry]) -> Mapping[Ref, _Given]:
    """Addresses of every host that wants some, status first. A host moves only if an older one wants its very place."""
    ordered = sorted(entries, key=lambda e: e.age_key)
    used = _by_users(ordered)
    for entry in ordered:
        used.update(a for host in allocated_hosts(entry) for a in _stated(entry, host))
    out: dict[Ref, _Given] = {}
    for entry in ordered:
        given: list[ServiceEntryAddress] = []
        for host in allocated_hosts(entry):
            addresses = _stated(entry, host) or _place(f"{entry.namespace}/{host}", used)
            given.extend(ServiceEntryAddress(value=str(a), host=host) for a in addresses)
        if given:
            out[entry.ref] = tuple(given)
    return MappingProxyType(out)


def _place(name: str, used: set[_Address]) -> list[_Address]:
    """The first free place at or after the one that the name says; the same in both families."""
    start = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big")
    for step in range(_PLACES):
        offset = (start + step) % _PLACES + 1
        pair: list[_Address] = [IPV4[offset], IPV6[offset]]
        if used.isdisjoint(pair):
            used.update(pair)
            return pair
    return []
