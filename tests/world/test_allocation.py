"""Addresses for hosts of ServiceEntries (SE-016, SE-018), in order for a status, by name without one."""

from ipaddress import ip_address

from hypothesis import given, settings
from hypothesis import strategies as st

from pypilot.kinds.base import Ref
from pypilot.kinds.service_entry import ServiceEntry, ServiceEntryAddress
from pypilot.world.advance import advance
from pypilot.world.allocation import IPV4, IPV6, Allocation, allocate, placed
from pypilot.world.delta import Delta
from pypilot.world.model import ServiceKey
from pypilot.world.reader import Reader
from pypilot.world.world import Constants, World
from tests.world.objects import make

PORTS = [{"number": 80, "name": "http", "protocol": "HTTP"}]


def entry(
    name: str,
    *hosts: str,
    given: dict[str, list[str]] | None = None,
    created: str = "",
    labels: dict[str, str] | None = None,
    **spec: object,
) -> ServiceEntry:
    addresses = [{"host": host, "value": value} for host, values in (given or {}).items() for value in values]
    made = make(
        "ServiceEntry",
        name,
        labels=labels or {},
        creationTimestamp=created,
        spec={"hosts": list(hosts or (f"{name}.example",)), "resolution": "DNS", "ports": PORTS, **spec},
        status={"addresses": addresses},
    )
    assert isinstance(made, ServiceEntry)
    return made


def texts(allocation: Allocation, name: str) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    for address in allocation.changes[Ref("ServiceEntry", "default", name)]:
        out.setdefault(address.host, []).append(address.value)
    return out


def test_addresses_are_handed_out_in_order_to_the_oldest_first() -> None:
    found = allocate([entry("b", created="2024-01-01T00:00:00Z"), entry("a", "a.example", "b.example", created="2025")])
    assert texts(found, "b") == {"b.example": ["240.240.0.1", "2001:2::1"]}
    assert texts(found, "a") == {
        "a.example": ["240.240.0.2", "2001:2::2"],
        "b.example": ["240.240.0.3", "2001:2::3"],
    }
    assert found.last == (3, 3)
    assert texts(allocate([entry("c")], found.last), "c") == {"c.example": ["240.240.0.4", "2001:2::4"]}


def test_what_is_given_stays() -> None:
    held = entry("a", given={"a.example": ["240.240.0.1", "2001:2::1"]}, created="2025")
    found = allocate([held, entry("b", created="2024")])
    assert found.changes.keys() == {Ref("ServiceEntry", "default", "b")}
    assert texts(found, "b") == {"b.example": ["240.240.0.2", "2001:2::2"]}
    only_v4 = entry("a", given={"a.example": ["240.240.0.9"]})
    assert not allocate([only_v4]).changes


def test_the_younger_of_two_with_one_address_gets_another() -> None:
    one, two = (entry(n, given={f"{n}.example": ["240.240.0.7"]}, created=c) for n, c in (("b", "2024"), ("a", "2025")))
    assert texts(allocate([two, one]), "a") == {"a.example": ["240.240.0.1", "2001:2::1"]}
    users = entry("users", addresses=["240.240.0.7"], created="2026")
    assert texts(allocate([one, users]), "b") == {"b.example": ["240.240.0.1", "2001:2::1"]}


def test_who_gets_none_and_loses_what_it_had() -> None:
    had = {"x.example": ["240.240.0.1"]}
    for without in (
        entry("x", given=had, labels={"networking.istio.io/enable-autoallocate-ip": "False"}),
        entry("x", given=had, resolution="NONE"),
        entry("x", given=had, addresses=["192.0.2.1"]),
        entry("x", "*.x.example", given=had, resolution="NONE"),
        entry("x", "*.x.example", given=had, resolution="STATIC", endpoints=[{"address": "192.0.2.1"}]),
    ):
        assert allocate([without]).changes[without.ref] == ()
        assert not placed([without])
    dynamic = entry("x", "*.x.example", resolution="DYNAMIC_DNS")
    assert texts(allocate([dynamic]), "x") == {"*.x.example": ["240.240.0.1", "2001:2::1"]}


def test_a_full_prefix_begins_again_and_then_ends() -> None:
    last = IPV4.num_addresses - 2
    found = allocate([entry("a"), entry("b")], (last - 1, last - 1))
    assert texts(found, "a")["a.example"][0] == str(IPV4[last])
    assert texts(found, "b")["b.example"][0] == "240.240.0.1"
    users = entry("users", addresses=[str(IPV4[i]) for i in range(1, last + 1)])
    assert texts(allocate([users, entry("a")]), "a") == {"a.example": ["2001:2::1"]}


HELD = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3)), max_size=20, unique_by=lambda pair: pair[0])


@settings(max_examples=100, deadline=None)
@given(HELD)
def test_allocating_ends_and_is_sound(held: list[tuple[int, int]]) -> None:
    entries = [
        entry(f"e{n}", given={f"e{n}.example": [f"240.240.0.{at}"]} if at else None, created=f"20{n:02}")
        for n, at in held
    ]
    changes = allocate(entries).changes
    after = [
        entry(
            e.name,
            given={a.host: [b.value for b in given if b.host == a.host] for a in given},
            created=e.metadata.creation_timestamp,
        )
        for e in entries
        for given in (changes.get(e.ref, e.status.addresses),)
    ]
    assert not allocate(after).changes
    values = [a.value for e in after for a in e.status.addresses]
    assert len(values) == len(set(values))
    assert all(e.status.addresses for e in after)


@settings(max_examples=100, deadline=None)
@given(st.sets(st.integers(0, 300), min_size=1, max_size=60), st.data())
def test_places_do_not_move(numbers: set[int], data: st.DataObject) -> None:
    entries = {n: entry(f"e{n}", created=f"2024-{n:03}") for n in numbers}
    gone = data.draw(st.sets(st.sampled_from(sorted(numbers))))
    all_of_them, fewer = placed(entries.values()), placed(e for n, e in entries.items() if n not in gone)
    for ref, addresses in fewer.items():
        (alone,) = placed([entries[int(ref.name[1:])]]).values()
        is_wanted_twice = any(alone == other for r, other in all_of_them.items() if r != ref)
        assert addresses == all_of_them[ref] or is_wanted_twice
    values = [ip_address(a.value) for addresses in all_of_them.values() for a in addresses]
    assert len(values) == len(set(values)) == 2 * len(numbers)
    assert all(v in (IPV4 if v.version == 4 else IPV6) for v in values)


def test_the_world_places_hosts_where_nobody_else_does() -> None:
    key = ServiceKey("a.example", "default")
    alone = advance(World(constants=Constants(allocates=True)), Delta(upserts=(entry("a"), entry("b"))))
    service = Reader(alone).service(key)
    assert service is not None
    given = placed([entry("a")])[Ref("ServiceEntry", "default", "a")]
    assert service.auto_addresses == tuple(a.value for a in given)
    stated = advance(alone, Delta(upserts=(entry("c", given={"c.example": [given[0].value]}),)))
    moved = Reader(stated).service(key)
    assert moved is not None
    assert moved.auto_addresses != service.auto_addresses
    in_a_cluster = advance(World(), Delta(upserts=(entry("a"),)))
    assert Reader(in_a_cluster).service(key).auto_addresses == ()  # type: ignore[union-attr]


def test_a_status_counts_only_for_its_very_host() -> None:
    stated = entry("a", given={"": ["240.240.0.1"], "other.example": ["240.240.0.2"], "a.example": ["240.240.0.3"]})
    found = Reader(advance(World(), Delta(upserts=(stated,)))).service(ServiceKey("a.example", "default"))
    assert found is not None
    assert found.auto_addresses == ("240.240.0.3",)
    assert allocate([stated]).changes[stated.ref] == (ServiceEntryAddress(value="240.240.0.3", host="a.example"),)
