"""The rules of a capture, for one address family. Pure.

Every rule stands in a chain of ours; the kernel's own chains only jump there (`Table.hooks`), so that all can be
replaced and taken away again. Order and effect are those of Istio's init container.

Source: IPT-001…009.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal

from pypilot.proxy.capture.plan import ALL, Capture, Everything, Network, of_family

Family = Literal[4, 6]
Rule = tuple[str, ...]

MARK: Final = "1337"
"""Of packets that TPROXY hands to Envoy, and of what Envoy then sends on with its caller's address."""
OUTBOUND_MARK: Final = "1338"
"""Of packets from Envoy to its own application by the pod's address."""
ROUTE_TABLE: Final = "133"
PASSTHROUGH: Final[dict[Family, str]] = {4: "127.0.0.6/32", 6: "::6/128"}
"""From where Envoy connects to the application (IPT-003)."""
_ANY: Final[dict[Family, int]] = {4: 32, 6: 128}


@dataclass(slots=True)
class Table:
    """One table: its chains in order, and the jumps to them."""

    name: str
    chains: dict[str, list[Rule]] = field(default_factory=dict)
    hooks: list[tuple[str, Rule]] = field(default_factory=list)
    """(chain of the kernel's, rule)."""

    def add(self, chain: str, *rule: str) -> None:
        """Append a rule to a chain of ours."""
        self.chains.setdefault(chain, []).append(rule)

    def hook(self, chain: str, *rule: str) -> None:
        """Append a jump to a chain of the kernel's."""
        self.hooks.append((chain, rule))


def tables(capture: Capture, family: Family) -> tuple[Table, ...]:
    """All tables with rules."""
    made = (_nat(capture, family), _mangle(capture, family), _raw(capture, family))
    return tuple(table for table in made if table.chains)


def _loopback(capture: Capture, family: Family) -> str:
    return str(capture.loopback) if family == 4 else "::1/128"


def _ranges(ranges: tuple[Network, ...] | Everything, family: Family) -> tuple[Network, ...] | Everything:
    return ranges if isinstance(ranges, Everything) else of_family(ranges, family)


def _owners(capture: Capture) -> Iterator[tuple[str, str]]:
    """(flag, id) of those whose traffic is Envoy's."""
    for uid in capture.uids:
        yield "--uid-owner", uid
    for gid in capture.gids:
        yield "--gid-owner", gid


def _nat(capture: Capture, family: Family) -> Table:
    nat = Table("nat")
    nat.add("ISTIO_REDIRECT", "-p", "tcp", "-j", "REDIRECT", "--to-ports", str(capture.proxy_port))
    nat.add("ISTIO_IN_REDIRECT", "-p", "tcp", "-j", "REDIRECT", "--to-ports", str(capture.inbound_port))
    _inbound(nat, capture, family)
    _outbound(nat, capture, family)
    return nat


def _inbound(nat: Table, capture: Capture, family: Family) -> None:
    for interface in capture.exclude_interfaces:
        nat.add("ISTIO_INBOUND", "-i", interface, "-j", "RETURN")
    for interface in capture.virtual_interfaces:
        ranges = _ranges(capture.outbound_ranges, family)
        for target in ((),) if isinstance(ranges, Everything) else tuple(("-d", str(r)) for r in ranges):
            nat.add("ISTIO_INBOUND", "-i", interface, *target, "-j", "ISTIO_REDIRECT")
        nat.add("ISTIO_INBOUND", "-i", interface, "-j", "RETURN")
    if capture.mode == "REDIRECT" and capture.inbound_ports != ():
        nat.add("ISTIO_INBOUND", "-p", "tcp", "--dport", str(capture.tunnel_port), "-j", "RETURN")
        if isinstance(capture.inbound_ports, Everything):
            for port in capture.exclude_inbound_ports:
                nat.add("ISTIO_INBOUND", "-p", "tcp", "--dport", str(port), "-j", "RETURN")
            nat.add("ISTIO_INBOUND", "-p", "tcp", "-j", "ISTIO_IN_REDIRECT")
        else:
            for port in capture.inbound_ports:
                nat.add("ISTIO_INBOUND", "-p", "tcp", "--dport", str(port), "-j", "ISTIO_IN_REDIRECT")
    if "ISTIO_INBOUND" in nat.chains:
        nat.hook("PREROUTING", "-p", "tcp", "-j", "ISTIO_INBOUND")


def _outbound(nat: Table, capture: Capture, family: Family) -> None:
    def add(*rule: str) -> None:
        nat.add("ISTIO_OUTPUT", *rule)

    nat.hook("OUTPUT", "-j", "ISTIO_OUTPUT")
    loopback = _loopback(capture, family)
    for interface in capture.exclude_interfaces:
        add("-o", interface, "-j", "RETURN")
    for port in capture.exclude_outbound_ports:
        add("-p", "tcp", "--dport", str(port), "-j", "RETURN")
        add("-p", "udp", "--dport", str(port), "-j", "RETURN")
    add("-o", "lo", "-s", PASSTHROUGH[family], "-j", "RETURN")
    for flag, owner in _owners(capture):
        _own_traffic(nat, capture, loopback, flag, owner)
    _groups(nat, capture)
    if capture.dns is not None and _dns_targets(capture, family):
        add("-j", "ISTIO_OUTPUT_DNS")
        for target in _dns_targets(capture, family):
            for transport in ("tcp", "udp"):
                to = ("-j", "REDIRECT", "--to-ports", str(capture.dns.agent_port))
                nat.add("ISTIO_OUTPUT_DNS", "-p", transport, "--dport", "53", *target, *to)
    add("-d", loopback, "-j", "RETURN")
    for excluded in of_family(capture.exclude_outbound_ranges, family):
        add("-d", str(excluded), "-j", "RETURN")
    for port in capture.outbound_ports:
        add("-p", "tcp", "--dport", str(port), "-j", "ISTIO_REDIRECT")
    ranges = _ranges(capture.outbound_ranges, family)
    if isinstance(ranges, Everything):
        add("-j", "ISTIO_REDIRECT")
    else:
        for included in ranges:
            add("-d", str(included), "-j", "ISTIO_REDIRECT")


def _own_traffic(nat: Table, capture: Capture, loopback: str, flag: str, owner: str) -> None:
    """Envoy's own traffic is left alone, but where it calls the application by the pod's own address."""

    def add(*rule: str) -> None:
        nat.add("ISTIO_OUTPUT", *rule)

    mine = ("-m", "owner", flag, owner)
    others = ("-m", "owner", "!", flag, owner)
    calls_itself = ("-o", "lo", "!", "-d", loopback, "-p", "tcp")
    tunnel = str(capture.tunnel_port)
    if capture.dns is not None and flag == "--uid-owner":
        ports = ("-m", "multiport", "!", "--dports", f"53,{tunnel}")  # a resolver on this machine is no application
        add(*calls_itself, *ports, *mine, "-j", "ISTIO_IN_REDIRECT")
    else:
        add(*calls_itself, "!", "--dport", tunnel, *mine, "-j", "ISTIO_IN_REDIRECT")
    if not capture.takes_loopback:
        only = ("-p", "tcp", "!", "--dport", "53") if capture.dns is not None else ()
        add("-o", "lo", *only, *others, "-j", "RETURN")
    add(*mine, "-j", "RETURN")


def _groups(nat: Table, capture: Capture) -> None:
    if not isinstance(capture.include_groups, Everything):
        others = [word for group in capture.include_groups for word in ("-m", "owner", "!", "--gid-owner", group)]
        nat.add("ISTIO_OUTPUT", *others, "-j", "RETURN")
        return
    for group in capture.exclude_groups:
        nat.add("ISTIO_OUTPUT", "-m", "owner", "--gid-owner", group, "-j", "RETURN")


def _dns_targets(capture: Capture, family: Family) -> tuple[tuple[str, ...], ...]:
    """Matches for the servers whose questions are captured."""
    if capture.dns is None:
        return ()
    if isinstance(capture.dns.servers, Everything):
        return ((),)
    is_v6 = family == 6
    return tuple(("-d", f"{s}/{_ANY[family]}") for s in capture.dns.servers if (":" in s) is is_v6)


def _raw(capture: Capture, family: Family) -> Table:
    """Questions and answers between Envoy's agent and the servers are tracked apart from those of the application."""
    raw = Table("raw")
    targets = _dns_targets(capture, family)
    if capture.dns is None or not targets:
        return raw
    raw.hook("OUTPUT", "-j", "ISTIO_OUTPUT_DNS")
    raw.hook("PREROUTING", "-j", "ISTIO_INBOUND")
    for flag, owner in _owners(capture):
        mine = ("-m", "owner", flag, owner)
        to_server = ("-p", "udp", "--dport", "53")
        to_application = ("-p", "udp", "--sport", str(capture.dns.agent_port))
        raw.add("ISTIO_OUTPUT_DNS", *to_server, *mine, "-j", "CT", "--zone", "1")
        raw.add("ISTIO_OUTPUT_DNS", *to_application, *mine, "-j", "CT", "--zone", "2")
    for target in targets:
        source = ("-s", target[1]) if target else ()
        raw.add("ISTIO_OUTPUT_DNS", "-p", "udp", "--dport", "53", *target, "-j", "CT", "--zone", "2")
        raw.add("ISTIO_INBOUND", "-p", "udp", "--sport", "53", *source, "-j", "CT", "--zone", "1")
    return raw


def _mangle(capture: Capture, family: Family) -> Table:
    mangle = Table("mangle")
    transparent = capture.mode == "TPROXY" and capture.inbound_ports != ()
    for interface in capture.exclude_interfaces if transparent else ():
        mangle.add("ISTIO_PREROUTING", "-i", interface, "-j", "RETURN")
        mangle.add("ISTIO_OUTPUT", "-o", interface, "-j", "RETURN")
    if capture.drop_invalid:
        mangle.add("ISTIO_PREROUTING", "-m", "conntrack", "--ctstate", "INVALID", "-j", "ISTIO_DROP")
        mangle.add("ISTIO_DROP", "-j", "DROP")
    if transparent:
        _transparent(mangle, capture, family)
    if "ISTIO_PREROUTING" in mangle.chains:
        mangle.hook("PREROUTING", "-j", "ISTIO_PREROUTING")
    if "ISTIO_OUTPUT" in mangle.chains:
        mangle.hook("OUTPUT", "-j", "ISTIO_OUTPUT")
    return mangle


def _transparent(mangle: Table, capture: Capture, family: Family) -> None:
    """Inbound connections keep their addresses: packets are marked, and routed to loopback (IPT-007)."""

    def inbound(*rule: str) -> None:
        mangle.add("ISTIO_INBOUND", *rule)

    loopback, marked = _loopback(capture, family), ("-m", "mark", "--mark", MARK)
    mangle.add("ISTIO_DIVERT", "-j", "MARK", "--set-mark", MARK)
    mangle.add("ISTIO_DIVERT", "-j", "ACCEPT")
    to_envoy = ("--tproxy-mark", f"{MARK}/0xffffffff", "--on-port", str(capture.inbound_port))
    mangle.add("ISTIO_TPROXY", "!", "-d", loopback, "-p", "tcp", "-j", "TPROXY", *to_envoy)
    mangle.add("ISTIO_PREROUTING", "-p", "tcp", "-j", "ISTIO_INBOUND")
    mangle.add("ISTIO_PREROUTING", "-p", "tcp", *marked, "-j", "CONNMARK", "--save-mark")
    inbound("-p", "tcp", *marked, "-j", "RETURN")  # has been here
    inbound("-p", "tcp", "-s", PASSTHROUGH[family], "-i", "lo", "-j", "RETURN")
    inbound("-p", "tcp", "-i", "lo", "-m", "mark", "!", "--mark", OUTBOUND_MARK, "-j", "RETURN")
    inbound("-p", "tcp", "--dport", str(capture.tunnel_port), "-j", "RETURN")
    if isinstance(capture.inbound_ports, Everything):
        for port in capture.exclude_inbound_ports:
            inbound("-p", "tcp", "--dport", str(port), "-j", "RETURN")
        chosen: tuple[Rule, ...] = ((),)
    else:
        chosen = tuple(("--dport", str(port)) for port in capture.inbound_ports)
    for port_match in chosen:
        known = ("-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED")
        inbound("-p", "tcp", *port_match, *known, "-j", "ISTIO_DIVERT")
        inbound("-p", "tcp", *port_match, "-j", "ISTIO_TPROXY")
    out = ("-p", "tcp", "-o", "lo")
    mangle.add("ISTIO_OUTPUT", *out, *marked, "-j", "RETURN")
    for flag, owner in _owners(capture):
        mine = ("-m", "owner", flag, owner)
        mangle.add("ISTIO_OUTPUT", "!", "-d", loopback, *out, *mine, "-j", "MARK", "--set-mark", OUTBOUND_MARK)
    mangle.add("ISTIO_OUTPUT", "-p", "tcp", "-m", "connmark", "--mark", MARK, "-j", "CONNMARK", "--restore-mark")


__all__ = ["ALL", "MARK", "ROUTE_TABLE", "Family", "Rule", "Table", "tables"]
