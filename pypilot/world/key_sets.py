"""Where the keys of a token issuer come from: the identity of a key set in the world."""

from typing import NamedTuple


class KeySource(NamedTuple):
    """One of the two is empty."""

    issuer: str
    """Whose OpenID configuration says where its keys are."""
    uri: str
    """Where keys are."""


def key_source(issuer: str, uri: str) -> KeySource:
    """The source for a rule with this `issuer` and `jwksUri` (RA-012); without one, the issuer is asked."""
    return KeySource("", uri) if uri else KeySource(issuer, "")
