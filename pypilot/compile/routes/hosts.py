"""How host patterns compare: `*` alone, or in front of a suffix (VS-007, GW-012, GW-013). Plain text, no look-ups."""

from collections.abc import Iterable, Sequence


def is_wildcard(host: str) -> bool:
    """True for `*` and `*.example.com`."""
    return host.startswith("*")


def is_subset(host: str, of: str) -> bool:
    """True if `of` matches every name that `host` matches."""
    if not is_wildcard(of):
        return host == of
    if is_wildcard(host):
        return len(host) >= len(of) and host[1:].endswith(of[1:])
    return host.endswith(of[1:])


def overlaps(one: str, other: str) -> bool:
    """True if one of the two is a subset of the other."""
    return is_subset(one, other) or is_subset(other, one)


def specificity(host: str) -> tuple[bool, int, str]:
    """Sort key: names before wildcards, longer before shorter, then by letter."""
    return (is_wildcard(host), -len(host), host)


def most_specific(host: str, patterns: Iterable[str]) -> str | None:
    """Of the patterns that match `host` the most specific one."""
    return min((p for p in patterns if is_subset(host, p)), key=specificity, default=None)


def for_namespace(server_hosts: Iterable[str], namespace: str) -> tuple[str, ...]:
    """Hosts of a Gateway server that a namespace may bind to, without their namespace part (GW-011)."""
    found = []
    for host in server_hosts:
        owner, slash, name = host.partition("/")
        if not slash:
            found.append(host)
        elif owner in ("*", namespace):
            found.append(name)
    return tuple(found)


def intersection(server_hosts: Sequence[str], service_hosts: Sequence[str]) -> tuple[str, ...]:
    """The more specific host of each pair that overlaps, in the order of the server's hosts (GW-012)."""
    found: dict[str, None] = {}
    for one in server_hosts:
        for other in service_hosts:
            if is_subset(one, other):
                found.setdefault(one)
            elif is_subset(other, one):
                found.setdefault(other)
    return tuple(found)
