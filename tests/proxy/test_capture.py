"""What is captured, as rules: order, options, replacement (IPT-001…009). Their effect: e2e/test_capture.py.

`tests/golden_capture/CASE/in.txt` holds flags, `out.txt` the rules that they give; refresh with `--update-golden`.
"""

import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from pypilot.cli.iptables import iptables
from pypilot.proxy.capture.kernel import has_ipv6
from pypilot.proxy.capture.plan import (
    ALL,
    Capture,
    CaptureError,
    Dns,
    name_servers,
    read_loopback,
    read_ports,
    read_ports_or_all,
    read_ranges,
    read_ranges_or_all,
    seconds_of,
)
from pypilot.proxy.capture.restore import read_saved, restore_text
from pypilot.proxy.capture.rules import tables

GOLDEN = Path(__file__).parents[1] / "golden_capture"


@pytest.mark.parametrize("case", sorted(path.name for path in GOLDEN.iterdir()))
def test_golden(case, request):
    flags = shlex.split((GOLDEN / case / "in.txt").read_text())
    done = CliRunner().invoke(iptables, ["--no-ipv6", *flags, "--dry-run"])
    assert done.exit_code == 0, done.output
    path = GOLDEN / case / "out.txt"
    if request.config.getoption("--update-golden"):
        path.write_text(done.output)
    assert path.exists(), "no out.txt: run pytest --update-golden"
    assert done.output == path.read_text()


def chain(capture, name, table="nat", family=4):
    found = {t.name: t for t in tables(capture, family)}
    return [" ".join(rule) for rule in found[table].chains.get(name, [])] if table in found else []


def test_the_order_of_outbound_decisions():
    capture = Capture(
        gids=(),
        exclude_outbound_ports=(22,),
        outbound_ports=(9999,),
        outbound_ranges=read_ranges("10.0.0.0/8,2001:db8::/32", "-i"),
        exclude_outbound_ranges=read_ranges("10.1.0.0/16", "-x"),
    )
    assert chain(capture, "ISTIO_OUTPUT") == [
        "-p tcp --dport 22 -j RETURN",
        "-p udp --dport 22 -j RETURN",
        "-o lo -s 127.0.0.6/32 -j RETURN",
        "-o lo ! -d 127.0.0.1/32 -p tcp ! --dport 15008 -m owner --uid-owner 1337 -j ISTIO_IN_REDIRECT",
        "-o lo -m owner ! --uid-owner 1337 -j RETURN",
        "-m owner --uid-owner 1337 -j RETURN",
        "-d 127.0.0.1/32 -j RETURN",
        "-d 10.1.0.0/16 -j RETURN",
        "-p tcp --dport 9999 -j ISTIO_REDIRECT",
        "-d 10.0.0.0/8 -j ISTIO_REDIRECT",
    ]
    assert chain(capture, "ISTIO_OUTPUT", family=6)[-1] == "-d 2001:db8::/32 -j ISTIO_REDIRECT"
    assert "-o lo -s ::6/128 -j RETURN" in chain(capture, "ISTIO_OUTPUT", family=6)


def test_nothing_outbound_and_nothing_inbound():
    capture = Capture(outbound_ranges=(), inbound_ports=())
    assert chain(capture, "ISTIO_INBOUND") == []
    assert not any("-j ISTIO_REDIRECT" in rule for rule in chain(capture, "ISTIO_OUTPUT"))


def test_a_captured_loopback_range_takes_calls_to_oneself():
    capture = Capture(outbound_ranges=read_ranges("127.0.0.0/8", "-i"))
    assert not any("-o lo -m owner !" in rule for rule in chain(capture, "ISTIO_OUTPUT"))


def test_inbound_ports():
    listed = Capture(inbound_ports=(80, 443), exclude_inbound_ports=(443,))
    assert chain(listed, "ISTIO_INBOUND") == [
        "-p tcp --dport 15008 -j RETURN",
        "-p tcp --dport 80 -j ISTIO_IN_REDIRECT",
        "-p tcp --dport 443 -j ISTIO_IN_REDIRECT",
    ]


def test_dns_of_some_servers_or_of_all():
    some = Capture(dns=Dns(("10.0.0.10", "fd00::a")))
    assert chain(some, "ISTIO_OUTPUT_DNS") == [
        "-p tcp --dport 53 -d 10.0.0.10/32 -j REDIRECT --to-ports 15053",
        "-p udp --dport 53 -d 10.0.0.10/32 -j REDIRECT --to-ports 15053",
    ]
    assert "-p udp --sport 53 -s fd00::a/128 -j CT --zone 1" in chain(some, "ISTIO_INBOUND", "raw", 6)
    assert chain(Capture(dns=Dns()), "ISTIO_OUTPUT_DNS")[0] == "-p tcp --dport 53 -j REDIRECT --to-ports 15053"
    only_v6 = Capture(dns=Dns(("fd00::a",)))
    assert "-j ISTIO_OUTPUT_DNS" not in chain(only_v6, "ISTIO_OUTPUT")


def test_groups_and_interfaces():
    some = Capture(include_groups=("1", "2"))
    assert "-m owner ! --gid-owner 1 -m owner ! --gid-owner 2 -j RETURN" in chain(some, "ISTIO_OUTPUT")
    assert "-m owner --gid-owner 7 -j RETURN" in chain(Capture(exclude_groups=("7",)), "ISTIO_OUTPUT")
    virtual = Capture(virtual_interfaces=("tap0",), exclude_interfaces=("eth1",))
    assert chain(virtual, "ISTIO_INBOUND")[:3] == [
        "-i eth1 -j RETURN",
        "-i tap0 -j ISTIO_REDIRECT",
        "-i tap0 -j RETURN",
    ]


def test_transparent_mode_is_in_mangle_and_not_in_nat():
    capture = Capture(mode="TPROXY", drop_invalid=True, exclude_inbound_ports=(15090,))
    assert chain(capture, "ISTIO_INBOUND") == []
    inbound = chain(capture, "ISTIO_INBOUND", "mangle")
    assert inbound[-1] == "-p tcp -j ISTIO_TPROXY"
    assert inbound.index("-p tcp --dport 15090 -j RETURN") < len(inbound) - 2
    assert chain(capture, "ISTIO_PREROUTING", "mangle")[0] == "-m conntrack --ctstate INVALID -j ISTIO_DROP"


@pytest.mark.parametrize(
    ("read", "text"),
    [(read_ports, "80,x"), (read_ports, "0"), (read_ports, "65536"), (read_ports, "٣"), (read_ranges, "10.0.0.0/40")],
)
def test_bad_values_are_named(read, text):
    with pytest.raises(CaptureError, match=r"-b: '.+' is not a"):
        read(text, "-b")


def test_words_for_all_and_none():
    assert read_ports_or_all(" * ", "-b") is ALL
    assert read_ports_or_all("", "-b") == ()
    assert read_ranges_or_all("*", "-i") is ALL
    assert [str(r) for r in read_ranges_or_all("10.0.0.1, 10.0.0.1,", "-i")] == ["10.0.0.1/32"]


def test_name_servers_of_a_resolv_conf():
    text = "# x\nsearch a.b\nnameserver 10.0.0.10\nnameserver fe80::1%eth0\nnameserver nonsense\nnameserver 10.0.0.10\n"
    assert name_servers(text) == ("10.0.0.10", "fe80::1")


def test_addresses_that_nobody_else_reaches_are_no_ipv6():
    loopback = "00000000000000000000000000000001 01 80 10 80       lo\n"
    link = "fe800000000000000000000000000001 02 40 20 80     eth0\n"
    assert not has_ipv6(loopback + link)
    assert has_ipv6(loopback + "20010db8000000000000000000000001 02 40 00 80     eth0\n")


def play(text, state):
    """What `iptables-restore --noflush` makes of a state {table: {chain: [rules]}}; fails as it would."""
    table = None
    for line in text.splitlines():
        words = line.split()
        if line.startswith("*"):
            table = state.setdefault(line[1:], {"OUTPUT": [], "PREROUTING": []})
        elif line.startswith(":"):
            table[words[0][1:]] = []
        elif words[0] == "-A":
            assert words[-1] in table or not words[-1].startswith("ISTIO_")
            table[words[1]].append(" ".join(words[2:]))
        elif words[0] == "-D":
            table[words[1]].remove(" ".join(words[2:]))
        elif words[0] == "-F":
            table[words[1]].clear()
        elif words[0] == "-X":
            users = [rule for rules in table.values() for rule in rules if rule.endswith(f"-j {words[1]}")]
            assert table.pop(words[1]) == []
            assert users == []
    return state


def save(state):
    lines = []
    for name, chains in state.items():
        lines += [f"*{name}", *(f":{c} - [0:0]" for c in chains)]
        lines += [f"-A {c} {rule}" for c, rules in chains.items() for rule in rules]
        lines.append("COMMIT")
    return "\n".join(lines)


captures = st.builds(
    Capture,
    mode=st.sampled_from(["REDIRECT", "TPROXY"]),
    inbound_ports=st.sampled_from([ALL, (), (80, 443)]),
    outbound_ranges=st.sampled_from([ALL, (), read_ranges("10.0.0.0/8", "")]),
    exclude_outbound_ports=st.sampled_from([(), (22,)]),
    dns=st.sampled_from([None, Dns(), Dns(("10.0.0.10",))]),
    drop_invalid=st.booleans(),
    exclude_interfaces=st.sampled_from([(), ("eth1",)]),
)


@given(st.lists(captures, max_size=4), captures, st.sampled_from([4, 6]))
def test_the_last_call_holds_whatever_was_before_and_all_can_be_taken_away(before, last, family):
    foreign = {"nat": {"OUTPUT": ["-p tcp -j KUBE"], "PREROUTING": [], "KUBE": ["-j RETURN"]}}
    state = {name: {c: list(r) for c, r in chains.items()} for name, chains in foreign.items()}
    for capture in (*before, last):
        play(restore_text(tables(capture, family), save(state)), state)
    fresh = play(restore_text(tables(last, family), save(foreign)), {k: {**v} for k, v in foreign.items()})
    ours = {t: {c: r for c, r in chains.items() if r} for t, chains in state.items()}
    assert {t: c for t, c in ours.items() if c} == {
        t: c for t, c in ({t: {c: r for c, r in ch.items() if r} for t, ch in fresh.items()}).items() if c
    }
    play(restore_text((), save(state)), state)
    assert restore_text((), save(state)) == ""
    assert state["nat"]["OUTPUT"] == ["-p tcp -j KUBE"]
    assert not any(c.startswith("ISTIO_") for chains in state.values() for c in chains)


def test_hooks_of_others_are_not_ours():
    saved = "*nat\n:ISTIO_OUTPUT - [0:0]\n-A OUTPUT -j ISTIO_OUTPUT\n-A OUTPUT -j KUBE-SERVICES\nCOMMIT\n"
    assert read_saved(saved)["nat"].hooks == [("OUTPUT", "-j", "ISTIO_OUTPUT")]


def test_the_command_prints_rules_and_names_bad_flags():
    done = CliRunner().invoke(iptables, ["--dry-run", "-d", "15090,15021,15020", "--no-ipv6"])
    assert done.exit_code == 0
    assert "-A ISTIO_INBOUND -p tcp --dport 15021 -j RETURN" in done.output
    assert "ip6tables" not in done.output
    done = CliRunner().invoke(iptables, ["--dry-run", "-x", "nonsense"])
    assert done.exit_code == 1
    assert "-x: 'nonsense' is not a CIDR" in done.output


@pytest.mark.parametrize(
    ("variables", "flags"),
    [
        ({"ISTIO_OUTBOUND_OWNER_GROUPS": "java,202"}, ["--owner-groups-include", "java,202"]),
        ({"ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE": "ftp"}, ["--owner-groups-exclude", "ftp"]),
        ({"INVALID_DROP": "true"}, ["--drop-invalid"]),
        ({"ISTIO_META_DNS_CAPTURE": "true", "CAPTURE_ALL_DNS": "true"}, ["--redirect-dns", "--capture-all-dns"]),
        ({"ISTIO_META_DNS_CAPTURE": "false", "INVALID_DROP": ""}, []),
        ({"ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR": "127.0.0.0/8"}, ["--host-ipv4-loopback-cidr", "127.0.0.0/8"]),
        ({"ISTIO_SERVICE_EXCLUDE_CIDR": "10.1.0.0/16"}, ["-x", "10.1.0.0/16"]),
    ],
)
def test_variables_that_istios_init_container_reads(variables, flags):
    """IPT-006, IPT-008: they come from `proxyMetadata`."""
    common = ["--dry-run", "--no-ipv6", "--log_output_level=default:info", "--force-apply"]
    by_variable = CliRunner().invoke(iptables, common, env=variables)
    by_flag = CliRunner().invoke(iptables, [*common, *flags])
    assert (by_variable.exit_code, by_flag.exit_code) == (0, 0)
    assert by_variable.output == by_flag.output
    assert (by_flag.output == CliRunner().invoke(iptables, common).output) is (not flags)


def test_a_flag_wins_over_a_variable():
    done = CliRunner().invoke(iptables, ["--dry-run", "--no-ipv6", "-b", "80"], env={"ISTIO_INBOUND_PORTS": "*"})
    assert "--dport 80 -j ISTIO_IN_REDIRECT" in done.output


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--owner-groups-include", ",".join(map(str, range(65)))], "65 groups, 64 at most"),
        (["--host-ipv4-loopback-cidr", "10.0.0.0/8"], "'10.0.0.0/8' is not a range of 127.0.0.0/8"),
        (["--probe-timeout", "soon"], "'soon' is not a duration"),
    ],
)
def test_what_no_rule_can_hold_is_refused(flags, said):
    done = CliRunner().invoke(iptables, ["--dry-run", *flags])
    assert done.exit_code == 1
    assert said in done.output


def test_durations_and_loopback():
    assert [seconds_of(text, "") for text in ("5s", "250ms", "1.5m")] == [5.0, 0.25, 90.0]
    assert str(read_loopback("127.0.0.1/8", "")) == "127.0.0.0/8"
