"""The Host headers by which a proxy's clients may call a service: `VirtualHost.domains` (RDS-004…008).

Pure text: what is visible, and which of two services gets a domain that both claim, is decided elsewhere.
"""

from collections.abc import Iterable
from ipaddress import IPv6Address, ip_address
from typing import NamedTuple

_SVC = ".svc."


class Domains(NamedTuple):
    """All domains of a service, and those of them that are short forms: they never take a known host (RDS-009)."""

    names: tuple[str, ...]
    short: frozenset[str] = frozenset()


def is_ip(host: str) -> bool:
    """True for an IP address."""
    # The text of nearly every host tells: names are neither all digits and dots nor do they hold a colon.
    if ":" not in host and not host.replace(".", "").isdigit():
        return False
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def authority(host: str) -> str:
    """The host as it stands in a Host header: IPv6 addresses in brackets."""
    return f"[{host}]" if ":" in host else host


def host_port(host: str, port: int) -> str:
    """`HOST:PORT`: names of virtual hosts (RDS-003)."""
    return f"{authority(host)}:{port}"


def _kubernetes_forms(host: str, proxy_domain: str) -> tuple[str, ...]:
    """Short names of `NAME.NAMESPACE.svc.SUFFIX`; the bare name only in the proxy's own namespace (RDS-004)."""
    name, dot, rest = host.partition(".")
    namespace, svc, _ = rest.partition(_SVC)
    if not dot or not svc:
        return ()
    qualified = f"{name}.{namespace}"
    if namespace == proxy_domain.partition(_SVC)[0]:
        return (name, f"{qualified}.svc", qualified)
    return (qualified, f"{qualified}.svc")


def _shared_suffix_forms(host: str, proxy_domain: str) -> tuple[str, ...]:
    """Without Kubernetes' `.svc.` in the proxy's domain: what is left of the domain that both share (RDS-006)."""
    parts, own = host.split("."), proxy_domain.split(".")
    shared = 0
    while shared < min(len(parts), len(own)) and parts[-1 - shared] == own[-1 - shared]:
        shared += 1
    unique = parts[: len(parts) - shared]
    if not shared or not unique:
        return ()
    short = ".".join(unique)
    return (short, f"{short}.{parts[len(unique)]}") if len(unique) == 2 else (short,)


def short_forms(host: str, proxy_domain: str) -> tuple[str, ...]:
    """Other names of a host for proxies of a DNS domain: with the final dot (RDS-005), then the shorter ones."""
    absolute = () if is_ip(host) else (f"{host}.",)
    if _SVC not in proxy_domain:
        return absolute + _shared_suffix_forms(host, proxy_domain)
    suffix = proxy_domain[proxy_domain.index(_SVC) :]
    return absolute + (_kubernetes_forms(host, proxy_domain) if host.endswith(suffix) else ())


def service_domains(hosts: Iterable[str], addresses: Iterable[str], proxy_domain: str, headless: bool) -> Domains:
    """Domains of a service: of its host and its aliases (RDS-008), then its addresses.

    `headless`: a Kubernetes Service whose pods have names below each of these (RDS-007).
    """
    names: list[str] = []
    short: list[str] = []
    for host in hosts:
        forms = short_forms(host, proxy_domain)
        names.append(authority(host))
        names.extend(forms)
        short.extend(forms)
    if headless:
        names.extend([f"*.{name}" for name in names])
    names.extend(authority(address) for address in addresses)
    return Domains(tuple(names), frozenset(short))


def proxied_domains(names: Iterable[str], port: int) -> tuple[str, ...]:
    """Domains as an explicit proxy sees them: with the port, which goes without saying for 80 alone (RDS-017)."""
    return tuple(form for name in names for form in ((name, f"{name}:{port}") if port == 80 else (f"{name}:{port}",)))


def usable_addresses(addresses: Iterable[str], ipv4: bool, ipv6: bool) -> tuple[str, ...]:
    """Addresses of the families that a proxy has; CIDRs stay as they are."""
    return tuple(a for a in addresses if "/" in a or (ipv6 if _is_ipv6(a) else ipv4))


def _is_ipv6(address: str) -> bool:
    return ":" in address and isinstance(ip_address(address), IPv6Address)
