"""NDS-005, BOOT-002: what an agent answers to DNS queries of its pod."""

import asyncio
from contextlib import suppress
from ipaddress import ip_address
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pypilot.proxy.dns.forward import Forwarder
from pypilot.proxy.dns.message import MessageError, answer, failure, read_query, shortened
from pypilot.proxy.dns.resolv_conf import read_resolv_conf
from pypilot.proxy.dns.server import DnsServer
from pypilot.proxy.dns.table import Place, make_table
from pypilot.proxy.names import Names
from pypilot.proxy.settings import DnsSettings
from pypilot.wire.pb.ads_pb2 import NameTable
from tests.proxy.dns_client import Resolver, over_tcp, over_udp, query, read, reply

SEARCH = ("shop.svc.cluster.local", "svc.cluster.local", "cluster.local")
PLACE = Place.of("shop", "shop.svc.cluster.local", SEARCH)


def entry(*ips, short="", namespace="", registry="", alt=()):
    registry = registry or ("Kubernetes" if short else "External")
    return SimpleNamespace(ips=ips, registry=registry, shortname=short, namespace=namespace, alt_hosts=alt)


TABLE = make_table(
    {
        "app.shop.svc.cluster.local": entry("10.0.0.1", short="app", namespace="shop"),
        "app.other.svc.cluster.local": entry("10.0.0.2", "fd00::2", short="app", namespace="other"),
        "db-0.db.other.svc.cluster.local": entry("10.0.0.3", short="db-0.db", namespace="other"),
        "far.other.svc.elsewhere.local": entry("10.0.0.4", short="far", namespace="other"),
        "Www.Example.com": entry("240.240.0.1"),
        "*.wild.example.com": entry("240.240.0.2"),
        "exact.wild.example.com": entry("240.240.0.3"),
        "many.example.com": entry(*(f"10.1.{n // 250}.{n % 250 + 1}" for n in range(300))),
        "broken.example.com": entry("not an address"),
    },
    PLACE,
)


def known(name):
    found = TABLE.find(name)
    return None if found is None else (str(found.addresses.v4[0]), found.canonical)


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("app.shop.svc.cluster.local.", "10.0.0.1"),
        ("app.shop.svc.", "10.0.0.1"),
        ("app.shop.", "10.0.0.1"),
        ("app.", "10.0.0.1"),  # of the pod's own namespace alone
        ("app.other.svc.cluster.local.", "10.0.0.2"),
        ("app.other.", "10.0.0.2"),
        ("app.other.svc.", "10.0.0.2"),
        ("db-0.db.other.", "10.0.0.3"),
        ("far.other.svc.elsewhere.local.", "10.0.0.4"),
        ("www.example.com.", "240.240.0.1"),
        ("a.wild.example.com.", "240.240.0.2"),
        ("a.b.wild.example.com.", "240.240.0.2"),
        ("exact.wild.example.com.", "240.240.0.3"),
    ],
)
def test_names_and_their_shorter_forms(name, address):
    assert known(name) == (address, "")


@pytest.mark.parametrize(
    "name", ["far.other.", "far.", "other.", "wild.example.com.", "app.shop.svc.cluster.", "broken.example.com.", "."]
)
def test_names_that_nobody_has(name):
    assert known(name) is None


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("www.example.com.shop.svc.cluster.local.", "www.example.com."),
        ("app.other.shop.svc.cluster.local.", "app.other."),
        ("a.wild.example.com.shop.svc.cluster.local.", "*.wild.example.com."),
    ],
)
def test_a_name_with_the_first_search_domain_leads_to_the_name(name, canonical):
    found = TABLE.find(name)
    assert found is not None
    assert found.canonical == canonical


def test_a_name_with_another_search_domain_is_not_known():
    assert known("www.example.com.svc.cluster.local.") is None
    assert known("app.shop.svc.cluster.local.shop.svc.cluster.local.") is None


def test_whole_names_win_over_shortened_ones():
    both = {
        "app.shop.svc.cluster.local": entry("10.0.0.1", short="app", namespace="shop"),
        "app.shop": entry("240.0.0.9"),
    }
    found = make_table(both, PLACE).find("app.shop.")
    assert found is not None
    assert str(found.addresses.v4[0]) == "240.0.0.9"


def test_resolv_conf():
    text = "# x\nnameserver 10.0.0.10\nnameserver fe80::1%eth0\nnameserver junk\ndomain a.b\nsearch C.d. e\noptions x\n"
    said = read_resolv_conf(text)
    assert said.servers == ("10.0.0.10", "fe80::1%eth0")
    assert said.search == ("c.d", "e")
    assert read_resolv_conf("search a\ndomain b.\n").search == ("b",)


@given(st.binary(max_size=600))
def test_any_bytes_are_a_query_or_refused(data):
    try:
        made = read_query(data)
    except MessageError:
        return
    read(failure(made))


@given(st.lists(st.ip_addresses(), max_size=60), st.integers(512, 1500), st.booleans())
def test_an_answer_fits_and_says_when_it_is_cut(addresses, size, extended):
    asked = read_query(query("A.example.COM", size=size if extended else 0))
    made = answer(asked, addresses, ttl=30, size=size, canonical="b.example.com.")
    found = read(made)
    assert len(made) <= size
    assert found.truncated == (len(found.records) < len(addresses) + 1)
    assert found.question == "A.example.COM."
    assert found.extended == extended
    assert [r[3] for r in found.records[1:]] == [str(ip_address(a)) for a in addresses][: len(found.records) - 1]


def test_too_large_an_answer_of_others_is_said_to_be():
    asked = query("a.example.com")
    large = reply(asked, padding=4)
    found = read(shortened(large, read_query(asked), 512))
    assert (found.truncated, found.records) == (True, [])


class Serving:
    """A server with the table, and what it forwards to."""

    def __init__(self, *answers, seconds=60.0, at_once=False, table=TABLE):
        self.answers, self.seconds, self.at_once, self.table = answers, seconds, at_once, table

    async def __aenter__(self):
        self.resolvers = [await Resolver(a).start() for a in self.answers]
        forwarder = Forwarder([r.address for r in self.resolvers], self.seconds, self.at_once)
        self.server = DnsServer(forwarder)
        self.server.table = self.table
        for _ in range(20):  # a port that is free for UDP may be taken for TCP
            with suppress(OSError):
                await self.server.start([("127.0.0.1", 0)])
                break
        (self.at,) = self.server.addresses
        return self

    async def __aexit__(self, *_):
        await self.server.stop()
        for resolver in self.resolvers:
            resolver.close()


def tells(*addresses, **more):
    return lambda data, _: reply(data, *addresses, **more)


async def test_known_names_are_answered_here():
    async with Serving() as at:
        found = await over_udp(at.at, query("App.Shop"))
        assert (found.number, found.code, found.authoritative) == (7, 0, True)
        assert found.records == [("App.Shop.", "A", 30, "10.0.0.1")]
        found = await over_udp(at.at, query("www.example.com.shop.svc.cluster.local"))
        assert found.records == [
            ("www.example.com.shop.svc.cluster.local.", "CNAME", 30, "www.example.com."),
            ("www.example.com.", "A", 30, "240.240.0.1"),
        ]
        assert (await over_udp(at.at, query("app.other", "AAAA"))).of("AAAA") == ["fd00::2"]


async def test_a_known_name_without_addresses_of_a_family_is_no_error():
    async with Serving() as at:
        found = await over_udp(at.at, query("app.shop", "AAAA"))
        assert (found.code, found.records) == (0, [])


async def test_addresses_come_in_any_order():
    table = make_table({"a.example.com": entry(*(f"10.0.0.{n}" for n in range(1, 9)))}, PLACE)
    async with Serving(table=table) as at:
        seen = {tuple(r[3] for r in (await over_udp(at.at, query("a.example.com"))).records) for _ in range(40)}
        assert len(seen) > 1
        assert len({frozenset(s) for s in seen}) == 1


async def test_what_is_too_long_for_a_datagram_comes_over_tcp():
    async with Serving() as at:
        cut = await over_udp(at.at, query("many.example.com"))
        assert cut.truncated
        assert 0 < len(cut.records) < 300
        more = await over_udp(at.at, query("many.example.com", size=1400))
        assert len(cut.records) < len(more.records) < 300
        first, second = await over_tcp(at.at, query("many.example.com", number=1), query("app.shop", number=2))
        assert (len(first.records), first.truncated, first.number) == (300, False, 1)
        assert (second.of("A"), second.number) == (["10.0.0.1"], 2)


async def test_other_names_go_to_the_resolvers_of_the_pod():
    async with Serving(tells("192.0.2.1")) as at:
        found = await over_udp(at.at, query("elsewhere.example", number=99))
        assert (found.number, found.of("A"), found.authoritative) == (99, ["192.0.2.1"], False)
        (found,) = await over_tcp(at.at, query("elsewhere.example"))
        assert found.of("A") == ["192.0.2.1"]
        found = await over_udp(at.at, query("app.shop", "TXT"))  # of known names only addresses are known
        assert found.of("A") == ["192.0.2.1"]
        assert [kind for kind, _ in at.resolvers[0].seen] == ["udp", "tcp", "udp"]


async def test_an_error_of_a_resolver_is_passed_on():
    async with Serving(tells(code=3)) as at:
        assert (await over_udp(at.at, query("nowhere.example"))).code == 3


async def test_a_cut_answer_is_passed_on_as_such():
    async with Serving(lambda data, kind: reply(data, "192.0.2.1", truncated=kind == "udp")) as at:
        assert (await over_udp(at.at, query("elsewhere.example"))).truncated
        (whole,) = await over_tcp(at.at, query("elsewhere.example"))
        assert not whole.truncated


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_silent_resolver_is_passed_over(at_once):
    def silent(*_):
        return None

    async with Serving(silent, tells("192.0.2.1"), seconds=1.0, at_once=at_once) as at:
        for _ in range(4):
            assert (await over_udp(at.at, query("elsewhere.example"))).of("A") == ["192.0.2.1"]


async def test_without_an_answer_there_is_an_error():
    async with Serving(lambda *_: None, seconds=0.1) as at:
        assert (await over_udp(at.at, query("elsewhere.example"))).code == 2
        (found,) = await over_tcp(at.at, query("elsewhere.example"))
        assert found.code == 2
    async with Serving() as at:
        assert (await over_udp(at.at, query("elsewhere.example"))).code == 2


async def test_only_the_answer_to_the_question_is_taken():
    def forged(data, _):
        return reply(query("other.example", number=int.from_bytes(data[:2], "big")), "192.0.2.66")

    def misnumbered(data, _):
        return reply(bytes([data[0] ^ 1]) + data[1:], "192.0.2.66")

    async with Serving(forged, misnumbered, seconds=0.2) as at:
        assert (await over_udp(at.at, query("elsewhere.example"))).code == 2


async def test_before_there_is_a_table_nothing_is_known_and_nobody_is_asked():
    async with Serving(tells("192.0.2.1"), table=None) as at:
        assert (await over_udp(at.at, query("app.shop"))).code == 2
        assert (await over_udp(at.at, query("elsewhere.example"))).code == 2
        assert at.resolvers[0].seen == []


async def test_what_is_no_query_harms_nobody():
    async with Serving() as at:
        assert (await over_udp(at.at, query("a.example", questions=2))).code == 1
        assert (await over_udp(at.at, query("a.example", flags=0x2000))).code == 4
        loop = asyncio.get_running_loop()
        sender, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, remote_addr=at.at)
        for junk in (b"", b"\0" * 11, reply(query("app.shop"), "10.0.0.1"), b"\xff" * 100):
            sender.sendto(junk)
        sender.close()
        assert (await over_udp(at.at, query("app.shop"))).of("A") == ["10.0.0.1"]


async def test_names_take_tables_and_resolv_conf(tmp_path):
    conf = tmp_path / "resolv.conf"
    conf.write_text("search shop.svc.cluster.local\n")
    settings = DnsSettings(addresses=(("127.0.0.1", 0),), named=True)
    names = Names(settings, "shop", "shop.svc.cluster.local", conf)
    await names.start()
    try:
        assert not names.known
        names.take(NameTable(table={"www.example.com": NameTable.NameInfo(ips=["240.240.0.1"], registry="External")}))
        assert names.known
        found = await over_udp(names.addresses[0], query("www.example.com.shop.svc.cluster.local"))
        assert found.of("A") == ["240.240.0.1"]
        names.take(NameTable())
        assert (await over_udp(names.addresses[0], query("www.example.com"))).code == 2
    finally:
        await names.stop()


async def test_a_port_that_is_taken_is_an_error(tmp_path):
    conf = tmp_path / "resolv.conf"
    conf.write_text("")
    async with Serving() as at:
        with pytest.raises(OSError):
            await Names(DnsSettings(addresses=(at.at,), named=True), "shop", "", conf).start()
