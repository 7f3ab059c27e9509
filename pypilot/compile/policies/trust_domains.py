"""Principals under every name of the mesh's trust domain (AZ-025, MESH-007). Pure."""

from collections.abc import Iterable

_ALWAYS_OURS = "cluster.local"
_PARTS = 5
"""TRUST_DOMAIN/ns/NAMESPACE/sa/ACCOUNT"""


def _matches(pattern: str, domain: str) -> bool:
    if pattern.startswith("*"):
        return domain.endswith(pattern[1:])
    if pattern.endswith("*"):
        return domain.startswith(pattern[:-1])
    return pattern == domain


def with_aliases(principals: Iterable[str], domains: tuple[str, ...]) -> tuple[str, ...]:
    """Each principal of the mesh once for every trust domain of it; others as they are.

    Args:
        principals: as written in policies.
        domains: the mesh's trust domain, then its aliases.
    """
    found: dict[str, None] = {}
    for principal in principals:
        domain, _, rest = principal.partition("/")
        is_whole = principal.count("/") == _PARTS - 1 and domain != "*"
        if not is_whole or not (domain == _ALWAYS_OURS or any(_matches(domain, d) for d in domains)):
            found[principal] = None
            continue
        for own in domains:
            is_covered = domain.startswith("*") and _matches(domain, own)
            found[principal if is_covered else f"{own}/{rest}"] = None
    return tuple(found)


def expanded(values: Iterable[str], domains: tuple[str, ...]) -> tuple[str, ...]:
    """Trust domains, with all of the mesh's in place of one of them."""
    found: dict[str, None] = {}
    for value in values:
        found.update(dict.fromkeys(domains if value in domains else (value,)))
    return tuple(found)
