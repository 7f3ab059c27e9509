"""AZ-025, AZ-015: principals and trust domains under every name of the mesh."""

import pytest

from pypilot.compile.policies.trust_domains import expanded, with_aliases

OURS = ("td1", "td2")


@pytest.mark.parametrize(
    ("principal", "found"),
    [
        ("td1/ns/a/sa/b", ("td1/ns/a/sa/b", "td2/ns/a/sa/b")),
        ("td2/ns/a/sa/b", ("td1/ns/a/sa/b", "td2/ns/a/sa/b")),
        ("cluster.local/ns/a/sa/b", ("td1/ns/a/sa/b", "td2/ns/a/sa/b")),
        ("other/ns/a/sa/b", ("other/ns/a/sa/b",)),
        ("*/ns/a/sa/b", ("*/ns/a/sa/b",)),
        ("*2/ns/a/sa/b", ("td1/ns/a/sa/b", "*2/ns/a/sa/b")),
        ("*/sa/b", ("*/sa/b",)),
        ("td1/ns/a/sa/*", ("td1/ns/a/sa/*", "td2/ns/a/sa/*")),
        ("*", ("*",)),
        ("td1", ("td1",)),
    ],
)
def test_principals(principal: str, found: tuple[str, ...]) -> None:
    assert with_aliases([principal], OURS) == found


def test_each_value_for_itself() -> None:
    """As in Istio, a principal that follows from two is there twice; trust domains are not."""
    both = ("td1/ns/a/sa/b", "td2/ns/a/sa/b")
    assert with_aliases(both, OURS) == both * 2
    assert expanded(["td2", "x", "td1"], OURS) == ("td1", "td2", "x")
