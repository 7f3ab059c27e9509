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
    return tuple(name for principal in principals for name in _under_all(principal, domains))


def _under_all(principal: str, domains: tuple[str, ...]) -> Iterable[str]:
    domain, _, rest = principal.partition("/")
    is_whole = principal.count("/") == _PARTS - 1 and domain != "*"
    if not is_whole or not (domain == _ALWAYS_OURS or any(_matches(domain, d) for d in domains)):
        return (principal,)
    covered = [domain.startswith("*") and _matches(domain, own) for own in domains]
    names = (principal if is_covered else f"{own}/{rest}" for own, is_covered in zip(domains, covered, strict=True))
    return dict.fromkeys(names)


def expanded(values: Iterable[str], domains: tuple[str, ...]) -> tuple[str, ...]:
    """Trust domains, with all of the mesh's in place of one of them."""
    found: dict[str, None] = {}
    for value in values:
        found.update(dict.fromkeys(domains if value in domains else (value,)))
    return tuple(found)
