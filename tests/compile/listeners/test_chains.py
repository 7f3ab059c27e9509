"""Chain matches: which are equal, which overlap, and what becomes of them."""

import pytest

from pypilot.compile.listeners.chains import (
    PLAIN_HTTP,
    Chain,
    ChainMatch,
    HttpChain,
    TcpChain,
    TcpDestination,
    build_match,
    is_server_name,
    without_overlaps,
)
from pypilot.world.model import Protocol


def tcp(name: str, **match: tuple[str, ...]) -> TcpChain:
    return TcpChain(ChainMatch(**match), TcpDestination(name, ((name, 0),), Protocol.TCP))  # type: ignore[arg-type]


def left(*chains: Chain) -> list[ChainMatch]:
    return [chain.match for chain in without_overlaps(chains)]


@pytest.mark.parametrize(
    ("match", "takes_all"),
    [
        (ChainMatch(), True),
        (ChainMatch(sni=("*",)), True),
        (ChainMatch(sni=("a.example", "*")), True),
        (ChainMatch(sni=("a.example",)), False),
        (ChainMatch(cidrs=("10.0.0.0/8",)), False),
        (ChainMatch(alpn=PLAIN_HTTP), False),
        (ChainMatch(transport="tls"), False),
    ],
)
def test_what_takes_all(match: ChainMatch, takes_all: bool) -> None:
    assert match.takes_all is takes_all
    assert (build_match(match) is None) is takes_all


def test_equal_matches_differ_only_in_writing() -> None:
    one = ChainMatch(sni=("b", "a", "*"), cidrs=("10.1.2.3/8", "192.0.2.1"))
    other = ChainMatch(sni=("a", "b"), cidrs=("192.0.2.1/32", "10.9.9.9/8"))
    assert one.identity == other.identity
    assert one.identity != other._replace(transport="tls").identity
    assert ChainMatch(cidrs=("0.0.0.0/0",)).identity == ChainMatch().identity


def test_built_matches_are_sorted_and_keep_the_address_as_written() -> None:
    made = build_match(ChainMatch(sni=("b", "a"), cidrs=("192.168.7.7/16", "10.0.0.1", "bogus", "0.0.0.0/0")))
    assert made is not None
    assert list(made.server_names) == ["a", "b"]
    assert [(p.address_prefix, p.prefix_len.value) for p in made.prefix_ranges] == [
        ("10.0.0.1", 32),
        ("192.168.7.7", 16),
    ]


def test_a_taken_name_is_taken_away() -> None:
    matches = left(tcp("1", sni=("a", "b")), tcp("2", sni=("b", "c")), tcp("3", sni=("a",)), tcp("4"), tcp("5"))
    assert [m.sni for m in matches] == [("a", "b"), ("c",), ()]


def test_names_under_other_conditions_do_not_overlap() -> None:
    matches = left(
        tcp("1", sni=("a",), cidrs=("10.0.0.0/8",)),
        tcp("2", sni=("a",)),
        tcp("3", sni=("a",), alpn=("istio",)),
        HttpChain(ChainMatch(alpn=PLAIN_HTTP, transport="raw_buffer"), "80"),
        HttpChain(ChainMatch(alpn=PLAIN_HTTP[:1], transport="raw_buffer"), "80"),
    )
    assert len(matches) == 4


@pytest.mark.parametrize(
    ("name", "good"),
    [("a.example", True), ("*.example", True), ("*example", False), ("a.*.example", False), ("", False)],
)
def test_names_that_envoy_takes(name: str, good: bool) -> None:
    assert is_server_name(name) is good
    assert len(left(tcp("1", sni=(name, "other")))[0].sni) == 1 + good
