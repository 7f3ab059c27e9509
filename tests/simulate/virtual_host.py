"""Which virtual host a request belongs to (envoy.config.route.v3.VirtualHost.domains)."""

from collections.abc import Iterator

from tests.simulate.fields import Message, flag, items, text
from tests.simulate.model import Trace
from tests.simulate.path import port_start


def _domains(configuration: Message) -> Iterator[tuple[str, int, Message]]:
    for i, host in enumerate(items(configuration, "virtual_hosts")):
        for domain in items(host, "domains"):
            yield str(domain).lower(), i, host


def _rank(domain: str, host: str) -> tuple[int, int] | None:
    """Exact names, then the longest suffix, then the longest prefix, then `*`. A wildcard is one character or more."""
    if domain == host:
        return 3, len(domain)
    if domain == "*":
        return 0, 0
    if len(host) < len(domain):
        return None
    if domain.startswith("*") and host.endswith(domain[1:]):
        return 2, len(domain)
    if domain.endswith("*") and host.startswith(domain[:-1]):
        return 1, len(domain)
    return None


def choose_virtual_host(
    configuration: Message, authority: str, resource: str, trace: Trace
) -> tuple[str, Message] | None:
    """Path and message of the virtual host; None without one."""
    host = authority
    if flag(configuration, "ignore_port_in_host_matching") and (at := port_start(host)) >= 0:
        host = host[:at]
    host = host.lower()
    best: tuple[tuple[int, int], str, int, Message] | None = None
    for domain, i, message in _domains(configuration):
        rank = _rank(domain, host)
        if rank is not None and (best is None or rank > best[0]):
            best = rank, domain, i, message
    if best is None:
        trace.note("virtual host", resource, "virtual_hosts", f"none has a domain for {host!r}")
        return None
    _, domain, i, message = best
    path = f"virtual_hosts[{i}]"
    trace.note("virtual host", resource, f"{path}.domains", f"{text(message, 'name')}: {domain!r} matches {host!r}")
    return path, message
