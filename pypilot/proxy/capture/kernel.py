"""Puts a capture into the kernel of the network namespace that this process is in, and takes it away again.

Needs Linux, CAP_NET_ADMIN, and iptables; for TPROXY and IPv6 `ip` too.
"""

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pypilot.proxy.capture.plan import Capture
from pypilot.proxy.capture.restore import restore_text
from pypilot.proxy.capture.rules import MARK, PASSTHROUGH, ROUTE_TABLE, Family, tables

_IPTABLES: Final[dict[Family, str]] = {4: "iptables", 6: "ip6tables"}
_SBIN: Final = "/usr/local/sbin:/usr/sbin:/sbin"
_ADDRESSES: Final = Path("/proc/net/if_inet6")
_LOOPBACK_OR_LINK: Final = ("10", "20")
"""Scopes of addresses that reach nobody else, as the kernel writes them."""


class KernelError(RuntimeError):
    """A tool is missing or refused; says which and what it said."""


@dataclass(frozen=True, slots=True)
class Tools:
    """How tools are run; another `prefix` runs them elsewhere, such as in another namespace."""

    prefix: tuple[str, ...] = ()

    def run(self, *command: str, stdin: str = "", accept: Sequence[str] = ()) -> str:
        """What it printed. A failure whose words hold one of `accept` is none.

        Raises:
            KernelError: it failed.
        """
        tool = shutil.which(command[0]) or shutil.which(command[0], path=_SBIN)
        if tool is None:
            raise KernelError(f"{command[0]}: not found")
        argv = [*self.prefix, tool, *command[1:]]
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode != 0 and not any(word in done.stderr for word in accept):
            said = done.stderr.strip() or f"exit status {done.returncode}"
            raise KernelError(f"{' '.join(command)}: {said}")
        return done.stdout


def has_ipv6(addresses: str | None = None) -> bool:
    """True if an interface has an address of IPv6 that others could reach; `addresses` as in `/proc/net/if_inet6`."""
    if addresses is None:
        addresses = _ADDRESSES.read_text() if _ADDRESSES.exists() else ""
    rows = [line.split() for line in addresses.splitlines()]
    return any(len(row) >= 4 and row[3] not in _LOOPBACK_OR_LINK for row in rows)


def families(ipv6: bool) -> tuple[Family, ...]:
    """The families to rule."""
    return (4, 6) if ipv6 else (4,)


def preview(capture: Capture, ipv6: bool) -> str:
    """What would be put into an empty kernel."""
    return "".join(
        f"# {_IPTABLES[family]}-restore --noflush\n{restore_text(tables(capture, family), '')}"
        for family in families(ipv6)
    )


def apply(capture: Capture, ipv6: bool, tools: Tools | None = None) -> None:
    """Replace whatever was captured before.

    Raises:
        KernelError: a tool refused; each table is as it was, or as it shall be.
    """
    tools = tools or Tools()
    for family in families(ipv6):
        if family == 6:
            # Envoy connects to applications from here, and it must be an address of this machine's.
            tools.run(
                "ip", "-6", "addr", "add", PASSTHROUGH[6], "dev", "lo", accept=("File exists", "already assigned")
            )
        text = restore_text(tables(capture, family), _saved(tools, family))
        _restore(tools, family, text)
        _drop_routes(tools, family)
        if capture.mode == "TPROXY" and capture.inbound_ports != ():
            tools.run("ip", f"-{family}", "rule", "add", "fwmark", MARK, "lookup", ROUTE_TABLE)
            tools.run("ip", f"-{family}", "route", "add", "local", "default", "dev", "lo", "table", ROUTE_TABLE)


def remove(ipv6: bool, tools: Tools | None = None) -> None:
    """Take everything of ours away; once more does nothing.

    Raises:
        KernelError: a tool refused.
    """
    tools = tools or Tools()
    for family in families(ipv6):
        _restore(tools, family, restore_text((), _saved(tools, family)))
        _drop_routes(tools, family)
        if family == 6:
            tools.run("ip", "-6", "addr", "del", PASSTHROUGH[6], "dev", "lo", accept=("Cannot assign", "not found"))


def _saved(tools: Tools, family: Family) -> str:
    return tools.run(f"{_IPTABLES[family]}-save")


def _restore(tools: Tools, family: Family, text: str) -> None:
    if text:
        tools.run(f"{_IPTABLES[family]}-restore", "--noflush", "--wait=30", stdin=text)


def _drop_routes(tools: Tools, family: Family) -> None:
    if ROUTE_TABLE in tools.run("ip", f"-{family}", "rule", "show", accept=("not supported",)):
        tools.run("ip", f"-{family}", "rule", "del", "fwmark", MARK, "lookup", ROUTE_TABLE)
        tools.run("ip", f"-{family}", "route", "flush", "table", ROUTE_TABLE, accept=("does not exist",))
