import pytest

from pypilot.compile.routes.hosts import for_namespace, intersection, is_subset, most_specific


@pytest.mark.parametrize(
    ("host", "of", "expected"),
    [
        ("a.example", "a.example", True),
        ("a.example", "b.example", False),
        ("a.example", "*", True),
        ("a.example", "*.example", True),
        ("example", "*.example", False),
        ("*.a.example", "*.example", True),
        ("*.example", "*.a.example", False),
        ("*.example", "*.example", True),
        ("*.example", "a.example", False),
        ("*", "*.example", False),
    ],
)
def test_is_subset(host: str, of: str, expected: bool) -> None:
    assert is_subset(host, of) is expected


@pytest.mark.parametrize(
    ("host", "patterns", "expected"),
    [
        ("x.a.example", ["*", "*.example", "*.a.example"], "*.a.example"),
        ("x.a.example", ["*.a.example", "x.a.example"], "x.a.example"),
        ("x.b.test", ["*.example", "y.b.test"], None),
        ("*.a.example", ["*.example", "*.a.example"], "*.a.example"),
    ],
)
def test_most_specific(host: str, patterns: list[str], expected: str | None) -> None:
    assert most_specific(host, patterns) == expected
    assert most_specific(host, reversed(patterns)) == expected


def test_for_namespace() -> None:
    hosts = ("a.example", "shop/b.example", "*/c.example", "lab/d.example")
    assert for_namespace(hosts, "shop") == ("a.example", "b.example", "c.example")


@pytest.mark.parametrize(
    ("server", "service", "expected"),
    [
        (("*.a.com",), ("b.a.com",), ("b.a.com",)),
        (("b.a.com",), ("*.a.com",), ("b.a.com",)),
        (("*",), ("x.com", "*.y.com"), ("x.com", "*.y.com")),
        (("x.com", "*.com"), ("*",), ("x.com", "*.com")),
        (("x.com",), ("y.com",), ()),
        (("*.com", "*.a.com"), ("b.a.com",), ("b.a.com",)),
    ],
)
def test_intersection(server: tuple[str, ...], service: tuple[str, ...], expected: tuple[str, ...]) -> None:
    assert intersection(server, service) == expected
